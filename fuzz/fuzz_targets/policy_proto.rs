//! Messages of the control plane, as bytes, read into the policy model.

#![no_main]

use linkerd2_proxy_api::{destination, inbound, outbound};
use mesh_policy::{
    inbound::ServerPolicy,
    outbound::OutboundPolicy,
    proto::{Read, destination::Change},
};
use prost::Message;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = outbound::OutboundPolicy::decode(bytes) {
        let _ = Read::<OutboundPolicy>::try_from(message);
    }
    if let Ok(message) = inbound::Server::decode(bytes) {
        let _ = Read::<ServerPolicy>::try_from(message);
    }
    if let Ok(message) = destination::Update::decode(bytes) {
        let _ = Read::<Change>::try_from(message);
    }
});
