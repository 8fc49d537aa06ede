//! Certificates: one authority per cluster, client certificates that name a user, and serving certificates.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as URL_SAFE_NO_PAD;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Map, Value, json};

/// A certificate with its key, both in PEM.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

impl Identity {
    /// Writes `NAME.crt` and `NAME.key` into a folder.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self, folder: &Path, name: &str) -> Result<()> {
        write(&folder.join(format!("{name}.crt")), &self.certificate)?;
        write(&folder.join(format!("{name}.key")), &self.key)
    }
}

/// A cluster's certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl Authority {
    /// Makes an authority, and writes it into `folder` as `ca.crt` and `ca.key`.
    ///
    /// # Errors
    /// No key can be made, or a file cannot be written.
    pub fn make(folder: &Path) -> Result<Self> {
        let key = KeyPair::generate().context("failed to make the key of the certificate authority")?;
        let certificate = parameters().self_signed(&key).context("failed to sign the certificate authority")?.pem();
        Identity { certificate: certificate.clone(), key: key.serialize_pem() }.write(folder, "ca")?;
        Ok(Self { issuer: Issuer::new(parameters(), key), certificate })
    }

    /// Takes up the authority that [`Authority::make`] wrote into `folder`.
    ///
    /// # Errors
    /// A file cannot be read, or is no key.
    pub fn read(folder: &Path) -> Result<Self> {
        let read = |name: &str| {
            let file = folder.join(name);
            fs::read_to_string(&file).with_context(|| format!("failed to read {}", file.display()))
        };
        let key = KeyPair::from_pem(&read("ca.key")?).context("ca.key holds no key")?;
        Ok(Self { issuer: Issuer::new(parameters(), key), certificate: read("ca.crt")? })
    }

    /// The authority's own certificate in PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A certificate by which a client is `user`, in `group` if one is given.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn client(&self, user: &str, group: Option<&str>) -> Result<Identity> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, user);
        if let Some(group) = group {
            parameters.distinguished_name.push(DnType::OrganizationName, group);
        }
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(parameters, user)
    }

    /// A certificate by which a server is known under `names`, which are host names and addresses.
    ///
    /// # Errors
    /// One of the names is neither, or the certificate cannot be made.
    pub fn server(&self, names: Vec<String>) -> Result<Identity> {
        let mut parameters = CertificateParams::new(names).context("a serving certificate's name is no name")?;
        parameters.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(parameters, "kube-apiserver")
    }

    fn sign(&self, mut parameters: CertificateParams, whose: &str) -> Result<Identity> {
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().with_context(|| format!("failed to make the key of {whose}"))?;
        let certificate = parameters.signed_by(&key, &self.issuer);
        let certificate = certificate.with_context(|| format!("failed to sign the certificate of {whose}"))?.pem();
        Ok(Identity { certificate, key: key.serialize_pem() })
    }
}

/// Writes the key pair of service account tokens as `tokens.key` and `tokens.pub`.
///
/// # Errors
/// No key can be made, or a file cannot be written.
pub fn token_key(folder: &Path) -> Result<()> {
    let key = KeyPair::generate().context("failed to make the key of service account tokens")?;
    write(&folder.join("tokens.key"), &key.serialize_pem())?;
    write(&folder.join("tokens.pub"), &key.public_key_pem())
}

/// The service account token `token` as if it had been made `seconds` earlier, signed anew with `tokens.key`.
///
/// # Errors
/// It is no JSON Web Token (RFC 7519), or the key cannot be used.
pub fn aged_token(folder: &Path, token: &str, seconds: i64) -> Result<String> {
    let claims = token.split('.').nth(1).context("a token has three parts")?;
    let claims = URL_SAFE_NO_PAD.decode(claims).context("the claims of a token are base64url")?;
    let mut claims: Map<String, Value> = serde_json::from_slice(&claims).context("the claims of a token are JSON")?;
    for name in ["iat", "nbf", "exp"] {
        let time = claims.get(name).and_then(Value::as_i64).with_context(|| format!("the token has no {name}"))?;
        claims.insert(name.to_owned(), (time - seconds).into());
    }
    // Without a key ID, the API server tries all of its keys.
    let header = json!({ "alg": "ES256", "typ": "JWT" });
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&header), part(&Value::Object(claims)));
    let pem = fs::read_to_string(folder.join("tokens.key")).context("failed to read tokens.key")?;
    let key = KeyPair::from_pem(&pem).context("tokens.key holds no key")?.serialize_der();
    let random = SystemRandom::new();
    let unusable = |error| anyhow::anyhow!("tokens.key cannot be used: {error}");
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key, &random).map_err(unusable)?;
    let signature = key.sign(&random, signed.as_bytes()).ok().context("failed to sign a token")?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

/// The same for a made and a read authority, so that both sign under one name.
fn parameters() -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, "testbed-ca");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    parameters
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("failed to write {}", file.display()))
}
