//! The cryptography of the mesh: aws-lc-rs, TLS 1.3, and our order of groups and suites.
//!
//! Made explicitly; the process-wide default of rustls is never asked for.

use rustls::{
    SupportedCipherSuite,
    crypto::{
        CryptoProvider,
        aws_lc_rs::{cipher_suite as suite, default_provider, kx_group as group},
    },
};
use std::sync::{Arc, LazyLock};

/// The provider of every configuration that this crate makes.
pub(super) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        Arc::new(CryptoProvider {
            cipher_suites: suites(has_aes()),
            // The hybrid first: what is recorded today must not be readable by a quantum computer.
            kx_groups: vec![
                group::X25519MLKEM768,
                group::X25519,
                group::SECP256R1,
                group::SECP384R1,
            ],
            ..default_provider()
        })
    });
    PROVIDER.clone()
}

/// The suites, best first: AES is the fastest where the CPU has it, and slow where it has not.
fn suites(has_aes: bool) -> Vec<SupportedCipherSuite> {
    let mut suites = vec![
        suite::TLS13_AES_128_GCM_SHA256,
        suite::TLS13_AES_256_GCM_SHA384,
        suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    if !has_aes {
        suites.rotate_right(1);
    }
    suites
}

fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::is_x86_feature_detected!("aes") && std::is_x86_feature_detected!("pclmulqdq")
    }
    #[cfg(target_arch = "aarch64")]
    {
        std::arch::is_aarch64_feature_detected!("aes")
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::CipherSuite;

    #[test]
    fn the_first_suite_is_the_one_the_cpu_is_best_at() {
        let first = |has_aes| suites(has_aes)[0].suite();
        assert_eq!(first(true), CipherSuite::TLS13_AES_128_GCM_SHA256);
        assert_eq!(first(false), CipherSuite::TLS13_CHACHA20_POLY1305_SHA256);
        assert_eq!(suites(false).len(), 3);
    }

    #[test]
    fn the_hybrid_group_is_preferred() {
        let names: Vec<_> = provider().kx_groups.iter().map(|g| g.name()).collect();
        assert_eq!(names[0], rustls::NamedGroup::X25519MLKEM768);
        assert_eq!(names[1], rustls::NamedGroup::X25519);
    }
}
