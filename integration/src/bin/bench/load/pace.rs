//! When the next request is due.
//!
//! Tokio's timer ticks in milliseconds, which is longer than an answer takes, so a fixed rate comes
//! from a `timerfd`.

use anyhow::Result;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use std::{
    cell::RefCell,
    collections::VecDeque,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};
use tokio::{io::AsyncReadExt, net::unix::pipe, sync::Semaphore};

/// Hands out the moments at which requests are due, to whichever connection asks first.
pub(super) struct Pace {
    until: Instant,
    timer: RefCell<Option<Timer>>,
    is_closed_loop: bool,
    due: RefCell<VecDeque<Instant>>,
    ready: Semaphore,
}

struct Timer {
    /// A `timerfd` is read like a pipe, eight bytes at a time.
    expirations: pipe::Receiver,
    started: Instant,
    interval: Duration,
}

impl Pace {
    /// `rate` per second until `until`; 0 means that a request is due whenever one can be sent.
    pub(super) fn new(rate: u64, until: Instant) -> Result<Self> {
        let timer = match Duration::from_secs(1)
            .as_nanos()
            .checked_div(u128::from(rate))
        {
            Some(nanos) => {
                let interval = Duration::from_nanos(nanos as u64);
                let started = Instant::now();
                let expirations = pipe::Receiver::from_owned_fd_unchecked(start_timer(interval)?)?;
                Some(Timer {
                    expirations,
                    started,
                    interval,
                })
            }
            None => None,
        };
        let is_closed_loop = timer.is_none();
        let (due, ready) = (RefCell::default(), Semaphore::new(0));
        Ok(Self {
            until,
            timer: RefCell::new(timer),
            is_closed_loop,
            due,
            ready,
        })
    }

    /// The next moment; `None` when the run is over.
    pub(super) async fn next(&self) -> Option<Instant> {
        if self.is_closed_loop {
            let now = Instant::now();
            return (now < self.until).then_some(now);
        }
        self.ready.acquire().await.ok()?.forget();
        self.due.borrow_mut().pop_front()
    }

    /// Runs the timer to the end of the run.
    pub(super) async fn run(&self) -> Result<()> {
        let timer = self.timer.borrow_mut().take();
        if let Some(Timer {
            mut expirations,
            started,
            interval,
        }) = timer
        {
            let mut due = started;
            while Instant::now() < self.until {
                let mut bytes = [0; 8];
                expirations.read_exact(&mut bytes).await?;
                let count = u64::from_ne_bytes(bytes);
                for _ in 0..count {
                    due += interval;
                    self.due.borrow_mut().push_back(due);
                }
                self.ready.add_permits(count as usize);
            }
        }
        tokio::time::sleep_until(self.until.into()).await;
        self.ready.close();
        Ok(())
    }
}

fn start_timer(interval: Duration) -> Result<OwnedFd> {
    let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
    let fd = timerfd_create(TimerfdClockId::Monotonic, flags)?;
    let spec = Timespec::try_from(interval)?;
    let every = Itimerspec {
        it_interval: spec,
        it_value: spec,
    };
    timerfd_settime(&fd, TimerfdTimerFlags::empty(), &every)?;
    Ok(fd)
}
