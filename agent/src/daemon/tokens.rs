//! Access tokens of this instance: the embedded issuer and the others, what was revoked, and what the
//! broker checks tokens and proofs with. Here their files get their places, and every change is logged.

mod error;
mod recorded;

use std::{
    fs,
    os::unix::fs::DirBuilderExt as _,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::task::spawn_blocking;

pub use error::TokenError;

use super::{
    Engine,
    control::token::{IssuedToken, TokenReply, TokenRequest},
    error::chain,
};
use crate::{
    audit::{Caller, Journal},
    broker::{
        issuer::{Embedded, Fetched, Issuers, Order, Revoked, Rotation, StaticIssuer, Target},
        jose::digest_from_base64url,
        proof::Proofs,
        token::Verifier,
    },
    config::{self, Broker, Instance, KeySource},
    timestamp::Timestamp,
};

const FOLDER_MODE: u32 = 0o700;

/// Everything about access tokens.
#[derive(Debug)]
pub struct Tokens {
    resource: String,
    lifetime_max: Duration,
    embedded: Arc<Embedded>,
    issuers: Arc<Issuers>,
    revoked: Arc<Revoked>,
    verifier: Arc<Verifier>,
    proofs: Arc<Proofs>,
    journal: Arc<Journal>,
}

impl Tokens {
    /// Opens what an instance has, and makes what lacks.
    pub fn open(
        settings: Broker,
        instance: &Instance,
        journal: &Arc<Journal>,
    ) -> Result<Self, TokenError> {
        let Broker {
            resource,
            token_lifetime_max,
            issuers,
            calls: _,
        } = settings;
        let folder = instance.state_folder();
        let mut builder = fs::DirBuilder::new();
        let made = builder.recursive(true).mode(FOLDER_MODE).create(&folder);
        made.map_err(|source| TokenError::Folder {
            path: folder.display().to_string(),
            source,
        })?;
        let resource = resource.unwrap_or_else(|| own_resource(instance));
        let embedded = Arc::new(Embedded::open(
            &instance.issuer_file(),
            format!("{resource}/issuer"),
            resource.clone(),
            SystemTime::now(),
        )?);
        let (mut files, mut fetched) = (Vec::new(), Vec::new());
        for config::Issuer { issuer, keys } in issuers {
            match keys {
                KeySource::File(jwks) => files.push(StaticIssuer { issuer, jwks }),
                KeySource::Fetched(settings) => fetched.push(Fetched::new(issuer, settings)?),
            }
        }
        let own = Some(Arc::clone(&embedded));
        let issuers = Arc::new(Issuers::with_fetched(own, files, fetched)?);
        let revoked = Arc::new(Revoked::open(&instance.revocations_file())?);
        let verifier = Arc::new(Verifier::new(
            resource.clone(),
            token_lifetime_max,
            Arc::clone(&issuers),
            Arc::clone(&revoked),
        ));
        Ok(Self {
            proofs: Arc::new(Proofs::new(resource.clone())?),
            resource,
            lifetime_max: token_lifetime_max,
            embedded,
            issuers,
            revoked,
            verifier,
            journal: Arc::clone(journal),
        })
    }

    /// The resource that tokens and proofs are for.
    #[must_use]
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// What checks tokens.
    #[must_use]
    pub fn verifier(&self) -> &Arc<Verifier> {
        &self.verifier
    }

    /// Whose keys are believed.
    #[must_use]
    pub fn issuers(&self) -> &Arc<Issuers> {
        &self.issuers
    }

    /// What was revoked.
    #[must_use]
    pub fn revoked(&self) -> &Arc<Revoked> {
        &self.revoked
    }

    /// What checks proofs.
    #[must_use]
    pub fn proofs(&self) -> &Arc<Proofs> {
        &self.proofs
    }

    /// Reads the keys of other issuers again. On an error the old ones stay.
    pub fn reload(&self) -> Result<(), TokenError> {
        Ok(self.issuers.reload()?)
    }

    /// Does what was asked. Reads and writes files.
    pub fn answer(
        &self,
        ask: TokenRequest,
        caller: Caller,
        now: SystemTime,
    ) -> Result<TokenReply, TokenError> {
        match ask {
            issue @ TokenRequest::Issue { .. } => {
                let order = self.order(issue)?;
                self.issue(&order, caller, now).map(TokenReply::Issued)
            }
            TokenRequest::Rotate { force } => {
                let rotation = if force {
                    Rotation::Forced
                } else {
                    Rotation::Graceful
                };
                let key_id = self.embedded.rotate(rotation, now)?;
                self.record_rotation(&key_id, force, caller)?;
                tracing::info!(
                    token.key_id = key_id,
                    rotation.forced = force,
                    caller.uid = caller.uid,
                    "token key rotated"
                );
                Ok(TokenReply::Rotated { key_id })
            }
            TokenRequest::Revoke { target } => self.revoke(&target, caller, now),
            TokenRequest::Revocations {} => Ok(TokenReply::Revocations {
                revocations: self.revoked.all(),
            }),
            TokenRequest::Keys {} => Ok(TokenReply::Keys {
                issuer: self.embedded.issuer().to_owned(),
                resource: self.resource.clone(),
                jwks: self.embedded.jwks(now),
            }),
        }
    }

    /// Issues a token; logged without it.
    pub fn issue(
        &self,
        order: &Order,
        caller: Caller,
        now: SystemTime,
    ) -> Result<IssuedToken, TokenError> {
        if order.lifetime > self.lifetime_max {
            return Err(TokenError::Lifetime {
                asked: order.lifetime.as_secs(),
                max: self.lifetime_max.as_secs(),
            });
        }
        let issued = self.embedded.issue(order, now)?;
        self.record_issue(order, &issued, caller)?;
        tracing::info!(
            token.id = issued.token_id,
            token.key_id = issued.key_id,
            token.subject = order.subject,
            token.client = order.client,
            token.tool = order.tool,
            caller.uid = caller.uid,
            "token issued"
        );
        Ok(IssuedToken {
            access_token: issued.token.expose().clone(),
            token_id: issued.token_id,
            key_id: issued.key_id,
            expires: Timestamp::from(issued.expires).to_string(),
            resource: self.resource.clone(),
        })
    }

    fn order(&self, ask: TokenRequest) -> Result<Order, TokenError> {
        let TokenRequest::Issue {
            subject,
            client,
            scopes,
            tool,
            seconds,
            jkt,
            purpose,
            session_hash,
            arguments_digest,
        } = ask
        else {
            return Err(TokenError::None);
        };
        let digest = |text: &str, what| digest_from_base64url(text).ok_or(TokenError::Digest(what));
        Ok(Order {
            subject,
            client,
            scopes,
            tool,
            lifetime: seconds.map_or(self.lifetime_max, Duration::from_secs),
            jkt: digest(&jkt, "jkt")?,
            purpose,
            session_hash,
            arguments_digest: arguments_digest
                .map(|text| digest(&text, "arguments_digest"))
                .transpose()?,
        })
    }

    /// A revoked key of our own must not go on signing: another takes its place.
    fn revoke(
        &self,
        target: &Target,
        caller: Caller,
        now: SystemTime,
    ) -> Result<TokenReply, TokenError> {
        self.revoked.revoke(target, now)?;
        let signs = matches!(target, Target::Key(id) if *id == self.embedded.key_id());
        let new_key_id = if signs {
            Some(self.embedded.rotate(Rotation::Forced, now)?)
        } else {
            None
        };
        self.record_revocation(target, new_key_id.as_deref(), caller)?;
        tracing::warn!(
            revoked.target = ?target,
            token.new_key_id = new_key_id,
            caller.uid = caller.uid,
            "tokens revoked"
        );
        Ok(TokenReply::Revoked { new_key_id })
    }
}

impl Engine {
    /// Access tokens, where this engine has a broker.
    #[must_use]
    pub fn tokens(&self) -> Option<&Arc<Tokens>> {
        self.tokens.as_ref()
    }

    /// Does what was asked about tokens. Files are written, which takes longer than a thread that
    /// serves everybody may be held.
    pub(super) async fn answer_token(
        &self,
        ask: TokenRequest,
        caller: Caller,
    ) -> Result<TokenReply, TokenError> {
        let tokens = Arc::clone(self.tokens.as_ref().ok_or(TokenError::None)?);
        let answer = spawn_blocking(move || tokens.answer(ask, caller, SystemTime::now()));
        answer.await.unwrap_or(Err(TokenError::Stopping))
    }

    /// Reads the keys of other issuers again, beside the policies.
    pub(super) async fn reload_issuers(&self) {
        let Some(tokens) = self.tokens.clone() else {
            return;
        };
        let reloaded = spawn_blocking(move || tokens.reload()).await;
        if let Err(error) = reloaded.unwrap_or(Err(TokenError::Stopping)) {
            tracing::error!(
                error = chain(&error),
                "keys of the issuers not reloaded: the last ones stay"
            );
        }
    }
}

/// The name of the broker where the configuration gives none.
fn own_resource(instance: &Instance) -> String {
    let host = nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok());
    let host = host.filter(|name| {
        !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte))
    });
    format!(
        "https://{}/{instance}",
        host.as_deref().unwrap_or("localhost")
    )
}
