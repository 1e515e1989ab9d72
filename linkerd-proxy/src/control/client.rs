//! The connection to one control-plane service: resolved, connected and watched over.

use crate::{addr::Target, dns::Resolver};
use rand::seq::IndexedRandom;
use std::time::Duration;
use tokio::sync::Mutex;
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// PINGs, so that a control plane that vanished is noticed in seconds.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(2));

/// A service of the control plane.
pub(super) struct Client {
    target: Target,
    resolver: Resolver,
    current: Mutex<Current>,
}

#[derive(Default)]
struct Current {
    channel: Option<Channel>,
    generation: u64,
}

impl Client {
    pub(super) fn new(target: Target, resolver: Resolver) -> Self {
        Self {
            target,
            resolver,
            current: Mutex::default(),
        }
    }

    /// The connection, made if there is none, and a number that names it.
    pub(super) async fn channel(&self) -> Result<(Channel, u64), Status> {
        let mut current = self.current.lock().await;
        if let Some(channel) = &current.channel {
            return Ok((channel.clone(), current.generation));
        }
        let channel = self.connect().await?;
        current.channel = Some(channel.clone());
        current.generation += 1;
        Ok((channel, current.generation))
    }

    /// That connection does not work: the next one goes to another replica, resolved anew.
    pub(super) async fn discard(&self, generation: u64) {
        let mut current = self.current.lock().await;
        if current.generation == generation {
            current.channel = None;
        }
    }

    async fn connect(&self) -> Result<Channel, Status> {
        let unavailable = |e: &dyn std::fmt::Display| Status::unavailable(e.to_string());
        let answer = self.resolver.resolve_service(&self.target).await;
        let addrs = answer.map_err(|e| unavailable(&e))?.addrs;
        let addr = addrs.choose(&mut rand::rng());
        let addr = addr.ok_or_else(|| unavailable(&"no addresses"))?;
        let (interval, timeout) = KEEP_ALIVE;
        let endpoint = Endpoint::from_shared(format!("http://{addr}"));
        endpoint
            .map_err(|e| unavailable(&e))?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(interval)
            .keep_alive_timeout(timeout)
            .keep_alive_while_idle(true)
            .connect()
            .await
            .map_err(|e| Status::unavailable(format!("connect {} at {addr}: {e}", self.target)))
    }
}
