//! What workloads ask to be certified: PKCS #10 requests in DER.

#![no_main]

use mesh_controller::identity::csr::verify;

libfuzzer_sys::fuzz_target!(|der: &[u8]| {
    const WEB: &str = "web.demo.serviceaccount.identity.gossamer.cluster.local";
    // A request is for one name, so it is good for no other.
    if verify(der, WEB).is_ok() {
        assert!(verify(der, "api.demo.serviceaccount.identity.gossamer.cluster.local").is_err());
    }
});
