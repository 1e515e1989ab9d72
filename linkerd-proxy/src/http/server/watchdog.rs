//! Looks after an HTTP/1 connection once a second, and for the drain.
//!
//! A connection is polled for every read and every answer, the watchdog's own timers hardly ever
//! fire: it has a waker of its own, so that a poll on somebody else's account costs it next to
//! nothing.

use super::{Activity, HEAD_TICKS, TICK};
use crate::drain::{self, Signal};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::AcqRel},
    },
    task::{Context, Poll, Wake, Waker, ready},
};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

/// What a connection has to be told.
pub(super) enum Alarm {
    /// It is time to end.
    Drain,
    /// It has been quiet for a while, between requests.
    Idle,
    /// A head has been coming for too long.
    HeadOverdue,
}

/// Watches over one connection.
pub(super) struct Watchdog<'a> {
    activity: &'a Activity,
    drain: Option<drain::Waiting>,
    tick: Interval,
    head_ticks: u32,
    bell: Option<Arc<Bell>>,
}

/// Rings when one of the watchdog's own timers fires.
struct Bell {
    rung: AtomicBool,
    task: Waker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rung.swap(true, AcqRel);
        self.task.wake_by_ref();
    }
}

impl<'a> Watchdog<'a> {
    pub(super) fn new(activity: &'a Activity, drain: &Signal) -> Self {
        let mut tick = interval_at(Instant::now() + TICK, TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            activity,
            drain: Some(drain.waiting()),
            tick,
            head_ticks: 0,
            bell: None,
        }
    }

    /// Ready when there is something to tell.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Alarm> {
        match &self.bell {
            Some(bell) if bell.task.will_wake(cx.waker()) => {
                if !bell.rung.swap(false, AcqRel) {
                    return Poll::Pending;
                }
            }
            _ => {
                let (rung, task) = (AtomicBool::new(false), cx.waker().clone());
                self.bell = Some(Arc::new(Bell { rung, task }));
            }
        }
        let Some(bell) = self.bell.clone() else {
            return Poll::Pending;
        };
        self.look(&mut Context::from_waker(&bell.into()))
    }

    fn look(&mut self, cx: &mut Context<'_>) -> Poll<Alarm> {
        if let Some(drain) = &mut self.drain
            && drain.poll(cx).is_ready()
        {
            self.drain = None;
            // The timer has not been looked at.
            cx.waker().wake_by_ref();
            return Poll::Ready(Alarm::Drain);
        }
        loop {
            ready!(self.tick.poll_tick(cx));
            let activity = self.activity;
            let is_quiet = !activity.moved.replace(false) && activity.in_flight.get() == 0;
            let has_head = !activity.head.borrow().is_empty();
            if has_head && activity.in_flight.get() == 0 {
                self.head_ticks += 1;
                if self.head_ticks >= HEAD_TICKS {
                    return Poll::Ready(Alarm::HeadOverdue);
                }
                continue;
            }
            self.head_ticks = 0;
            if is_quiet && activity.served.get() {
                return Poll::Ready(Alarm::Idle);
            }
        }
    }
}
