//! Whom a collector behind https has to be.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// What a value begins with that is a certificate, and no path.
const PEM: &str = "-----BEGIN ";

/// Why there is nobody to trust.
#[derive(Debug, thiserror::Error)]
pub enum NoTrust {
    /// The certificates cannot be had.
    #[error("failed to read the certificates {}: {error}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: rustls::pki_types::pem::Error,
    },
    /// They are none.
    #[error("the certificates given for the OTLP collector are no certificates in PEM: {0}")]
    Certificates(String),
    /// Nothing was given, and the system has nothing.
    #[error(
        "an OTLP collector behind https cannot be checked, because this system has no certificates of authorities: set \
         LINKSPAN_OTLP_CERTIFICATE"
    )]
    System,
    /// Its host is nothing that a certificate can have.
    #[error("{0:?} is no host that a certificate can be for")]
    Name(String),
    /// rustls refuses what it is told.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// A client that trusts the authorities in `certificates`, which is a path or the PEM text itself, and nobody else; without
/// it, those of the system.
pub(super) fn client(certificates: Option<&str>) -> Result<Arc<ClientConfig>, NoTrust> {
    let roots = match certificates {
        Some(given) => of(given)?,
        None => of_system()?,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn of(given: &str) -> Result<RootCertStore, NoTrust> {
    let mut found = Vec::new();
    if given.trim_start().starts_with(PEM) {
        for certificate in CertificateDer::pem_slice_iter(given.as_bytes()) {
            found.push(certificate.map_err(|error| NoTrust::Certificates(error.to_string()))?);
        }
    } else {
        let path = PathBuf::from(given);
        let read = |error| NoTrust::Read { path: path.clone(), error };
        for certificate in CertificateDer::pem_file_iter(&path).map_err(read)? {
            found.push(certificate.map_err(read)?);
        }
    }
    if found.is_empty() {
        return Err(NoTrust::Certificates("there is none".to_owned()));
    }
    let mut roots = RootCertStore::empty();
    for certificate in found {
        roots.add(certificate).map_err(|error| NoTrust::Certificates(error.to_string()))?;
    }
    Ok(roots)
}

fn of_system() -> Result<RootCertStore, NoTrust> {
    let mut roots = RootCertStore::empty();
    // A system has some that are of no use to rustls, and many that are.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(NoTrust::System) } else { Ok(roots) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_told() {
        let told = |given: &str| client(Some(given)).expect_err(given).to_string();
        assert!(told("/nonexistent/ca.crt").starts_with("failed to read the certificates /nonexistent/ca.crt: "));
        let empty = tempfile::NamedTempFile::new().expect("a file");
        assert!(told(empty.path().to_str().expect("UTF-8")).ends_with("no certificates in PEM: there is none"));
        let cut = "-----BEGIN CERTIFICATE-----\nMIIC";
        assert!(told(cut).contains("no certificates in PEM"), "{}", told(cut));
        let nothing = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(told(nothing).contains("no certificates in PEM"), "{}", told(nothing));
    }
}
