//! The answer of an endpoint on its way to the client, counted as it passes.

use super::{
    Body, Response,
    body::Watch,
    classify::{Class, grpc_status},
    client::Sent,
    headers,
    upgrade::Switch,
};
use crate::{error::HttpError, limit::Room, metrics::http::Endpoint};
use http::{HeaderMap, StatusCode};
use std::rc::Rc;
use tokio::time::Instant;

/// Learns what became of a request, besides the endpoint's own counters.
pub trait Observer: 'static {
    /// The head of the answer is there, and `failed` is what it says. Called first, and once.
    fn head(&mut self, failed: bool);
    /// The answer is over. Called once.
    fn over(&mut self, status: StatusCode, class: Class, now: Instant);
}

impl Observer for () {
    fn head(&mut self, _: bool) {}
    fn over(&mut self, _: StatusCode, _: Class, _: Instant) {}
}

/// What is known of a request when its answer comes.
pub struct Context<O> {
    /// Learns what becomes of it.
    pub observer: O,
    /// Counts it.
    pub metrics: Rc<Endpoint>,
    /// When it was received.
    pub received: Instant,
    /// Held until the answer has passed.
    pub room: Room,
}

/// The answer as the client gets it.
pub fn respond<O: Observer>(sent: Sent, context: Context<O>) -> Response {
    let mut response = sent.response;
    let switched = response.body_mut().take_switched();
    headers::strip_response(response.headers_mut(), switched.is_some());
    let mut watch = Passing {
        status: response.status(),
        grpc: grpc_status(response.headers()),
        observer: context.observer,
        metrics: context.metrics,
        received: context.received,
        is_first: true,
        is_over: false,
        _room: context.room,
    };
    // Not with the first bytes of the body: of a stream, those may come much later.
    watch.observer.head(watch.class(None).is_failure());
    let response = response.map(|body| Body::watched(body, Box::new(watch)));
    match switched {
        Some(endpoint) => response.map(|body| body.then(Switch::Upgrade(endpoint))),
        None => response,
    }
}

/// Watches the body of an answer.
struct Passing<O: Observer> {
    status: StatusCode,
    /// In the head, when the answer is nothing but a head.
    grpc: Option<u16>,
    observer: O,
    metrics: Rc<Endpoint>,
    received: Instant,
    is_first: bool,
    is_over: bool,
    _room: Room,
}

impl<O: Observer> Passing<O> {
    fn settle(&mut self, class: Class, now: Instant) {
        self.is_over = true;
        self.metrics.response(Some(self.status), class);
        self.observer.over(self.status, class, now);
    }

    fn first_at(&mut self, now: Instant) {
        if std::mem::take(&mut self.is_first) {
            let elapsed = now.saturating_duration_since(self.received);
            self.metrics.latency(Some(self.status), elapsed);
        }
    }

    fn class(&self, trailers: Option<&HeaderMap>) -> Class {
        match self.grpc {
            Some(code) => Class::of_grpc(code),
            None => Class::of(self.status, trailers),
        }
    }
}

impl<O: Observer> Watch for Passing<O> {
    fn first(&mut self) {
        if self.is_first {
            self.first_at(Instant::now());
        }
    }

    fn end(&mut self, trailers: Option<&HeaderMap>) {
        let now = Instant::now();
        self.first_at(now);
        self.settle(self.class(trailers), now);
    }

    fn broken(&mut self, _: &HttpError) {
        let class = Class::Failure {
            grpc: self.grpc,
            error: "i/o",
        };
        self.settle(class, Instant::now());
    }
}

impl<O: Observer> Drop for Passing<O> {
    fn drop(&mut self) {
        // The client went before the end; the head is all that was said.
        if !self.is_over {
            self.settle(self.class(None), Instant::now());
        }
    }
}
