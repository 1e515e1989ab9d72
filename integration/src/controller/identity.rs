//! The controller as an identity service, and somebody who asks it for certificates.

use super::Controller;
use crate::{
    addr,
    pki::{self, Authority},
    proxy,
    token::Signer,
};
use linkerd2_proxy_api::identity::{CertifyRequest, identity_client::IdentityClient};
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::CertificateDer;
use std::{fs, net::SocketAddr, path::PathBuf};
use tempfile::TempDir;
use tonic::{Status, transport::Channel};

/// The files that the controller signs with.
pub struct Material {
    dir: TempDir,
    anchors: String,
}

/// A certificate as the service answered.
#[derive(Clone, Debug)]
pub struct Certified {
    /// The certificate itself first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Until when it is said to be valid, in seconds since 1970.
    pub valid_until: i64,
}

// === impl Material ===

impl Material {
    /// Signs by `issuer`, trusts its root, and believes tokens of `signer`.
    pub fn new(issuer: &Authority, signer: &Signer) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        fs::create_dir(dir.path().join("issuer")).expect("a new directory");
        let material = Self {
            dir,
            anchors: issuer.anchor_pem(),
        };
        material.issuer(issuer);
        pki::replace(&material.path("trust-anchors.pem"), &material.anchors);
        pki::replace(
            &material.path("token-key.pub.pem"),
            &signer.public_key_pem(),
        );
        material
    }

    /// Replaces the issuer.
    pub fn issuer(&self, issuer: &Authority) {
        self.issuer_text(&issuer.chain_pem(), &issuer.key_pem());
    }

    /// Replaces the issuer by whatever these texts are.
    pub fn issuer_text(&self, certificate: &str, key: &str) {
        pki::replace(&self.path("issuer/key.pem"), key);
        pki::replace(&self.path("issuer/crt.pem"), certificate);
    }

    /// Replaces the trust anchors.
    pub fn anchors(&self, authorities: &[&Authority]) {
        let anchors: Vec<_> = authorities.iter().map(|a| a.anchor()).collect();
        pki::replace(&self.path("trust-anchors.pem"), &pki::pem(&anchors));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn args(&self, addr: SocketAddr) -> Vec<String> {
        let path = |name| self.path(name).display().to_string();
        [
            ("--identity-addr", addr.to_string()),
            ("--identity-issuer", path("issuer")),
            ("--identity-trust-anchors", path("trust-anchors.pem")),
            ("--identity-token-key", path("token-key.pub.pem")),
        ]
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .collect()
    }
}

impl Controller {
    /// Starts one that is an identity service too, with more `flags`.
    pub fn with_identity(manifests: &[(&str, &str)], material: &Material, flags: &[&str]) -> Self {
        let ip = addr::unique_ip();
        let mut args = material.args((ip, 8080).into());
        args.extend(flags.iter().map(|flag| (*flag).to_owned()));
        Self::start_at(ip, manifests, args)
    }

    /// Where it certifies.
    pub fn identity_addr(&self) -> SocketAddr {
        (self.ip, 8080).into()
    }

    /// A sidecar that follows it, and is `service_account` by a token of `signer`.
    pub fn meshed_proxy(
        &self,
        service_account: &str,
        material: &Material,
        signer: &Signer,
    ) -> proxy::Builder {
        let name = pki::identity(service_account);
        self.proxy()
            .identity(&name, self.identity_addr(), &material.anchors)
            .token(&signer.token(service_account))
    }
}

/// A request for `names` (DER), and its key.
pub fn request(names: &[&str]) -> (Vec<u8>, KeyPair) {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names are ASCII");
    params.distinguished_name = rcgen::DistinguishedName::new();
    let key = KeyPair::generate().expect("keys can be made");
    let request = params.serialize_request(&key).expect("it can be signed");
    (request.der().to_vec(), key)
}

/// Asks the service at `addr` for a certificate.
///
/// # Errors
/// With what the service says.
pub async fn certify(
    addr: SocketAddr,
    identity: &str,
    token: &str,
    csr: Vec<u8>,
) -> Result<Certified, Status> {
    let channel = Channel::from_shared(format!("http://{addr}"))
        .expect("an address is a valid URI")
        .connect()
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    let request = CertifyRequest {
        identity: identity.to_owned(),
        token: token.as_bytes().to_vec(),
        certificate_signing_request: csr,
    };
    let response = IdentityClient::new(channel).certify(request).await?;
    let response = response.into_inner();
    let mut chain = vec![response.leaf_certificate];
    chain.extend(response.intermediate_certificates);
    Ok(Certified {
        chain: chain.into_iter().map(CertificateDer::from).collect(),
        valid_until: response.valid_until.map_or(0, |at| at.seconds),
    })
}
