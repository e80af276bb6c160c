//! TLS to a server, and the checks of its certificate.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;
use vexact_core::error::{Error, Result};

/// Check of a server's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Check {
    /// No check: the connection is encrypted, but the server is not authenticated.
    Nothing,
    /// The certificate must be signed by one of these.
    Signers(Roots),
    /// The certificate must also be valid for the requested host.
    SignersAndName(Roots),
}

/// Trusted root certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Roots {
    /// The root certificates of the operating system.
    System,
    /// The certificates of a PEM file.
    File(PathBuf),
}

/// Returns the connector for TLS connections.
///
/// # Errors
/// Root certificates that cannot be read.
pub(super) fn connector(check: &Check) -> Result<MakeRustlsConnect> {
    let provider = Arc::new(ring::default_provider());
    let verifier = match check {
        Check::Nothing => Verifier { provider: Arc::clone(&provider), signers: None, has_name: false },
        Check::Signers(roots) => Verifier::of(&provider, roots, false)?,
        Check::SignersAndName(roots) => Verifier::of(&provider, roots, true)?,
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Engine(format!("TLS: {error}")))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

impl Roots {
    fn read(&self) -> Result<Vec<CertificateDer<'static>>> {
        match self {
            Roots::System => {
                let found = rustls_native_certs::load_native_certs();
                match (found.certs.is_empty(), found.errors.first()) {
                    (false, _) => Ok(found.certs),
                    (true, error) => Err(Error::Engine(format!(
                        "sidecar_source: expected root certificates of the system, got none{}: sslrootcert=FILE names others",
                        error.map_or_else(String::new, |error| format!(" ({error})"))
                    ))),
                }
            }
            Roots::File(path) => pem_file(path),
        }
    }
}

fn pem_file(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let bad = |problem: String| Error::BadFile { path: path.into(), problem };
    let failed = |error: pem::Error| match error {
        pem::Error::Io(error) => Error::io(path, error),
        error => bad(format!("sslrootcert: expected certificates in PEM form: {error}")),
    };
    let found: Vec<_> =
        CertificateDer::pem_file_iter(path).and_then(|certificates| certificates.collect()).map_err(failed)?;
    match found.is_empty() {
        true => Err(bad("sslrootcert: expected certificates in PEM form, got none".into())),
        false => Ok(found),
    }
}

/// Verifier that runs only the configured checks.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    /// Verifier of the signature; `None` if any certificate is accepted.
    signers: Option<Arc<WebPkiServerVerifier>>,
    /// True if the certificate must be valid for the host.
    has_name: bool,
}

impl Verifier {
    fn of(provider: &Arc<CryptoProvider>, roots: &Roots, has_name: bool) -> Result<Self> {
        let mut store = RootCertStore::empty();
        let (known, _) = store.add_parsable_certificates(roots.read()?);
        let signers = WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider)).build();
        let signers = signers.map_err(|error| {
            Error::Engine(format!("sidecar_source: expected root certificates, got {known} that can be used: {error}"))
        })?;
        Ok(Self { provider: Arc::clone(provider), signers: Some(signers), has_name })
    }
}

/// Error of a certificate authority that is used as a server certificate.
#[derive(Debug, thiserror::Error)]
#[error(
    "expected the certificate of a server, got one that signs others (CA:TRUE): a self-signed one needs basicConstraints=CA:FALSE \
     and a subjectAltName"
)]
struct IsSigner;

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        server: &ServerName<'_>,
        revocation: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        use CertificateError::{NotValidForName, NotValidForNameContext, Other};
        let Some(signers) = &self.signers else { return Ok(ServerCertVerified::assertion()) };
        // The name is checked last.
        match signers.verify_server_cert(certificate, others, server, revocation, now) {
            Err(rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }))
                if !self.has_name =>
            {
                Ok(ServerCertVerified::assertion())
            }
            Err(rustls::Error::InvalidCertificate(Other(other)))
                if other.0.downcast_ref() == Some(&webpki::Error::CaUsedAsEndEntity) =>
            {
                Err(rustls::Error::Other(OtherError(Arc::new(IsSigner))))
            }
            result => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
