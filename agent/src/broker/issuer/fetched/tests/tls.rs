//! Whom the agent believes to be the issuer's server.

use std::{fs, sync::Arc};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair as CertificateKey,
};
use rustls::{ServerConfig, crypto::aws_lc_rs, pki_types::PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::{
    QUICK, World,
    server::{Server, Stream},
};
use crate::{
    broker::reason::Reason,
    config::{Endpoint, Fetching, KeyPlace, LoopbackHttp},
};

/// An authority that nobody knows but who is told.
pub(super) struct Authority(CertifiedIssuer<'static, CertificateKey>);

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = CertificateKey::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    pub(super) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A server with a certificate for this name.
    async fn server(&self, name: &str) -> Server {
        let key = CertificateKey::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a configuration");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Server::start_with(Arc::new(move |stream| {
            let acceptor = acceptor.clone();
            Box::pin(async move {
                let stream = acceptor.accept(stream).await.ok()?;
                Some(Box::new(stream) as Box<dyn Stream>)
            })
        }))
        .await
    }
}

/// What comes of keys at `https://127.0.0.1` from this server, with this authority.
async fn keys_of(server: Server, trusted: &Authority) -> Result<(), (Reason, String)> {
    let folder = tempfile::tempdir().expect("a folder");
    let ca = folder.path().join("ca.pem");
    fs::write(&ca, trusted.pem()).expect("written");
    let at = format!("https://127.0.0.1:{}/keys", server.port());
    let place = Endpoint::parse(&at, LoopbackHttp::Refused).expect("a URL");
    let settings = Fetching {
        place: KeyPlace::Set(place),
        ca,
        http: LoopbackHttp::Refused,
        ..QUICK
    };
    let world = World::new(server, "https://id.example".to_owned(), settings);
    world.publish(&[("one", &world.pair)]);
    let world = world.start();
    let verified = world.verify(&world.token("one", &world.pair)).await;
    if verified.is_err() {
        world
            .until("why", |world| world.condition().error.is_some())
            .await;
    }
    let error = world.condition().error.unwrap_or_default();
    verified
        .map(drop)
        .map_err(|refused| (refused.reason, error))
}

#[tokio::test]
async fn a_private_authority_is_enough() {
    let authority = Authority::new();
    let server = authority.server("127.0.0.1").await;
    assert_eq!(keys_of(server, &authority).await, Ok(()));
}

#[tokio::test]
async fn who_is_vouched_for_by_others_or_under_another_name_is_nobody() {
    let authority = Authority::new();
    for (server, trusted, why) in [
        (
            authority.server("127.0.0.1").await,
            &Authority::new(),
            "certificate",
        ),
        (
            authority.server("id.example").await,
            &authority,
            "certificate not valid for name",
        ),
        (Server::start().await, &authority, "not within its time"),
    ] {
        let (reason, error) = keys_of(server, trusted).await.expect_err(why);
        assert_eq!(reason, Reason::IssuerUnavailable);
        assert!(error.contains(why), "{error}");
    }
}
