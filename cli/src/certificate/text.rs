//! A certificate as text, much as `openssl x509 -text` writes it.
//!
//! Part of `certificate`, for people; programs take JSON.

use super::{Certificate, parse};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{ExtendedKeyUsage, KeyUsage};
use x509_parser::oid_registry::{OidRegistry, asn1_rs::Oid};

const TIME: &[BorrowedFormatItem<'_>] = format_description!(
    "[month repr:short] [day padding:space] [hour]:[minute]:[second] [year] GMT"
);

impl Certificate {
    /// Lines that end with a line end.
    pub(crate) fn to_text(&self) -> String {
        let mut text = String::from("Certificate:\n    Data:\n        Version: 3 (0x2)\n");
        let mut line = |depth: usize, line: &str| {
            text.push_str(&format!("{}{line}\n", "    ".repeat(depth)));
        };
        let parsed = parse(&self.der).ok();
        line(2, "Serial Number:");
        line(3, &self.serial);
        if let Some(parsed) = &parsed {
            let algorithm = &parsed.signature_algorithm.algorithm;
            line(2, &format!("Signature Algorithm: {}", name_of(algorithm)));
        }
        line(2, &format!("Issuer: {}", self.issuer));
        line(2, "Validity");
        line(3, &format!("Not Before: {}", time(self.not_before)));
        line(3, &format!("Not After : {}", time(self.not_after)));
        line(2, &format!("Subject: {}", self.subject));
        line(2, "Subject Public Key Info:");
        line(3, &format!("Public Key Algorithm: {}", self.key_algorithm));
        line(2, "X509v3 extensions:");
        for (title, value) in parsed.iter().flat_map(usages) {
            line(3, &title);
            line(4, &value);
        }
        if !self.subject_alt_names.is_empty() {
            line(3, "X509v3 Subject Alternative Name:");
            line(4, &self.subject_alt_names.join(", "));
        }
        line(
            1,
            &format!("SHA256 Fingerprint: {}", fingerprint(&self.sha256)),
        );
        text
    }
}

/// What the key may be used for, each with its title.
fn usages(parsed: &X509Certificate<'_>) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut add = |name: &str, critical: bool, value: String| {
        let critical = if critical { " critical" } else { "" };
        all.push((format!("X509v3 {name}:{critical}"), value));
    };
    if let Ok(Some(usage)) = parsed.key_usage() {
        add("Key Usage", usage.critical, key_usage(usage.value));
    }
    if let Ok(Some(usage)) = parsed.extended_key_usage() {
        add("Extended Key Usage", usage.critical, extended(usage.value));
    }
    if let Ok(Some(constraints)) = parsed.basic_constraints() {
        let mut value = if constraints.value.ca {
            "CA:TRUE"
        } else {
            "CA:FALSE"
        }
        .to_string();
        if let Some(length) = constraints.value.path_len_constraint {
            value.push_str(&format!(", pathlen:{length}"));
        }
        add("Basic Constraints", constraints.critical, value);
    }
    all
}

fn key_usage(usage: &KeyUsage) -> String {
    let names = [
        (usage.digital_signature(), "Digital Signature"),
        (usage.non_repudiation(), "Non Repudiation"),
        (usage.key_encipherment(), "Key Encipherment"),
        (usage.data_encipherment(), "Data Encipherment"),
        (usage.key_agreement(), "Key Agreement"),
        (usage.key_cert_sign(), "Certificate Sign"),
        (usage.crl_sign(), "CRL Sign"),
    ];
    listed(names)
}

fn extended(usage: &ExtendedKeyUsage<'_>) -> String {
    let names = [
        (usage.any, "Any Extended Key Usage"),
        (usage.server_auth, "TLS Web Server Authentication"),
        (usage.client_auth, "TLS Web Client Authentication"),
        (usage.code_signing, "Code Signing"),
        (usage.email_protection, "E-mail Protection"),
        (usage.time_stamping, "Time Stamping"),
        (usage.ocsp_signing, "OCSP Signing"),
    ];
    listed(names)
}

fn listed<const N: usize>(names: [(bool, &str); N]) -> String {
    let set = names.into_iter().filter(|(set, _)| *set);
    set.map(|(_, name)| name).collect::<Vec<_>>().join(", ")
}

/// A known name such as `ecdsa-with-SHA256`, else the number.
fn name_of(algorithm: &Oid<'_>) -> String {
    let registry = OidRegistry::default().with_all_crypto();
    let known = registry.get(algorithm).map(|entry| entry.sn().to_string());
    known.unwrap_or_else(|| algorithm.to_id_string())
}

fn time(time: OffsetDateTime) -> String {
    // All its parts are there, so it can be written.
    time.format(TIME).unwrap_or_default()
}

/// `AB:CD:..` of `abcd..`.
fn fingerprint(hex: &str) -> String {
    let pairs = hex.as_bytes().chunks(2).map(String::from_utf8_lossy);
    let pairs: Vec<_> = pairs.map(|pair| pair.to_uppercase()).collect();
    pairs.join(":")
}
