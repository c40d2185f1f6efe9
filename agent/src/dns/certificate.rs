//! Which name servers are believed over TLS: those with a certificate for their name by an authority of
//! the configured file. And why one was not, for people.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use super::{error::Error, session::lock};
use crate::authorities;

/// Why a certificate was last refused; taken by whoever tells it.
pub(super) type LastRefused = Arc<Mutex<Option<rustls::Error>>>;

/// A client that trusts the authorities of a PEM file, and no other.
pub(super) fn client(roots: &Path, refused: &LastRefused) -> Result<ClientConfig, Error> {
    let bad = |why: &dyn std::fmt::Display| Error::Roots {
        path: roots.to_owned(),
        why: why.to_string(),
    };
    let store = authorities::read(roots).map_err(|error| bad(&error))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(store.into(), provider.clone());
    let verifier = Verifier {
        inner: verifier.build().map_err(|error| bad(&error))?,
        refused: Arc::clone(refused),
    };
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

/// The library's own verifier, every answer of which stands; a refusal is kept on its way, because the
/// transport does not tell it.
#[derive(Debug)]
struct Verifier {
    inner: Arc<WebPkiServerVerifier>,
    refused: LastRefused,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.inner.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        *lock(&self.refused) = verified.as_ref().err().cloned();
        verified
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
