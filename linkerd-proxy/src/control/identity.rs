//! `Identity.Certify`: asks the identity service for a certificate.
//!
//! No connection is kept: the next request is hours away, and one that failed should go to another
//! replica. No certificate is shown, because the one there is may be the reason for asking.

use super::client::Client;
use crate::identity::{Answer, Ask, Authority};
use linkerd2_proxy_api::identity::{CertifyRequest, identity_client::IdentityClient};
use rustls_pki_types::CertificateDer;
use tonic::{Status, metadata::MetadataMap};

/// Response metadata that holds the trust anchors in force, one DER certificate in each value.
const ANCHORS: &str = "gossamer-trust-anchors-bin";

/// Longest answer, in bytes: a chain is a few certificates.
const MAX_ANSWER: usize = 256 * 1024;

/// The identity service.
pub struct IdentityService(pub(super) Client);

impl Authority for IdentityService {
    async fn certify(&self, ask: Ask) -> Result<Answer, String> {
        let channel = self.0.fresh().await.map_err(text)?;
        let answer = IdentityClient::new(channel)
            .max_decoding_message_size(MAX_ANSWER)
            .certify(CertifyRequest {
                identity: ask.identity,
                token: ask.token,
                certificate_signing_request: ask.csr,
            })
            .await
            .map_err(text)?;
        let anchors = match self.0.proves_its_name() {
            true => anchors(answer.metadata()),
            false => Vec::new(),
        };
        let answer = answer.into_inner();
        let mut chain = vec![answer.leaf_certificate];
        chain.extend(answer.intermediate_certificates);
        Ok(Answer {
            chain: chain.into_iter().map(CertificateDer::from).collect(),
            anchors,
        })
    }
}

/// Values that are not base64 are left to be missed: a bundle without them is no worse than none.
fn anchors(metadata: &MetadataMap) -> Vec<CertificateDer<'static>> {
    let values = metadata.get_all_bin(ANCHORS).iter();
    let ders = values.filter_map(|value| value.to_bytes().ok());
    ders.map(|der| CertificateDer::from(der.to_vec())).collect()
}

fn text(status: Status) -> String {
    format!("{}: {}", status.code(), status.message())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::metadata::MetadataValue;

    #[test]
    fn every_value_is_an_anchor() {
        let mut metadata = MetadataMap::new();
        assert!(anchors(&metadata).is_empty());
        for der in [b"one", b"two"] {
            metadata.append_bin(ANCHORS, MetadataValue::from_bytes(der));
        }
        let ders: Vec<_> = anchors(&metadata).iter().map(|d| d.to_vec()).collect();
        assert_eq!(ders, [b"one", b"two"]);
    }
}
