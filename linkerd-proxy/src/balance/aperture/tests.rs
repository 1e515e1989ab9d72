//! The decision alone, fed with what vitals would say.

use super::*;
use tokio::time::advance;

struct Fixture {
    aperture: Aperture,
    vitals: Rc<Vitals>,
}

impl Fixture {
    fn new(known: usize) -> Self {
        let vitals = Vitals::new();
        let mut aperture = Aperture::new(vitals.clone(), Instant::now());
        aperture.resize(known, Instant::now());
        Self { aperture, vitals }
    }

    fn start(&mut self, n: usize) {
        for _ in 0..n {
            self.aperture.widen();
            self.vitals.started();
        }
    }

    fn connect(&mut self, n: usize) {
        for _ in 0..n {
            self.start(1);
            self.vitals.held();
        }
    }

    fn end(&self, n: usize) {
        (0..n).for_each(|_| self.vitals.ended());
    }

    /// A window in which so many were in flight all the time, and of 20 answers so many late.
    async fn window(&mut self, in_flight: usize, late: usize) {
        self.end(self.vitals.requests());
        self.start(in_flight);
        self.vitals.take_window();
        self.end(1);
        self.start(1);
        (0..20).for_each(|n| self.vitals.answered(n < late));
        advance(WINDOW).await;
        assert!(self.aperture.is_due(Instant::now()));
        self.aperture.look(0, Instant::now());
    }

    async fn tick(&mut self) -> usize {
        advance(TICK).await;
        self.aperture.narrow(0, Instant::now());
        self.aperture.wanted()
    }
}

#[tokio::test(start_paused = true)]
async fn few_are_all_wanted_and_many_are_not() {
    for (known, wanted) in [(0, 0), (1, 1), (ALL, ALL), (ALL + 1, LEAST), (999, LEAST)] {
        assert_eq!(Fixture::new(known).aperture.wanted(), wanted, "of {known}");
    }
}

#[tokio::test(start_paused = true)]
async fn it_widens_at_once_with_what_is_in_flight() {
    let mut f = Fixture::new(1_000);
    f.start(16 * LEAST);
    assert_eq!(f.aperture.wanted(), LEAST);
    f.start(1);
    assert_eq!(f.aperture.wanted(), LEAST + 1);
    f.start(100_000);
    assert_eq!(f.aperture.wanted(), 1_000, "there are no more");
}

#[tokio::test(start_paused = true)]
async fn it_narrows_by_an_eighth_at_a_time_to_what_would_have_done() {
    let mut f = Fixture::new(1_000);
    f.start(16 * 80);
    f.end(16 * 80);
    assert_eq!(f.tick().await, 80, "80 were needed meanwhile");
    assert_eq!(f.tick().await, 70);
    assert_eq!(f.tick().await, 62);
    f.start(16 * 45);
    assert_eq!(f.tick().await, 60, "45, and a third");
    assert_eq!(f.tick().await, 60);
    assert!(!f.aperture.is_at_rest());
    f.end(16 * 45);
    for _ in 0..30 {
        f.tick().await;
    }
    assert_eq!(f.aperture.wanted(), LEAST);
    assert!(f.aperture.is_at_rest());
}

#[tokio::test(start_paused = true)]
async fn two_late_windows_widen_it_and_one_does_not() {
    let mut f = Fixture::new(1_000);
    f.window(48, 20).await;
    f.window(48, 4).await;
    f.window(48, 20).await;
    assert_eq!(f.aperture.wanted(), LEAST);
    f.window(48, 5).await;
    assert_eq!(f.aperture.wanted(), 19, "a fourth was late");
    for _ in 0..10 {
        f.window(48, 20).await;
    }
    assert_eq!(f.aperture.wanted(), 98, "half a request each, and one more");
}

#[tokio::test(start_paused = true)]
async fn what_was_learned_of_late_answers_is_forgotten_in_minutes() {
    let mut f = Fixture::new(1_000);
    for _ in 0..10 {
        f.window(48, 20).await;
    }
    f.end(48);
    for _ in 0..60 {
        f.tick().await;
    }
    assert_eq!(f.aperture.wanted(), LEAST);
    assert!(!f.aperture.is_at_rest(), "five minutes later it is known");
    for _ in 0..120 {
        f.tick().await;
    }
    assert!(f.aperture.is_at_rest());
}

#[tokio::test(start_paused = true)]
async fn late_answers_matter_only_when_load_may_be_why() {
    let mut f = Fixture::new(1_000);
    for _ in 0..10 {
        f.window(LEAST / 2 - 1, 20).await;
    }
    assert_eq!(f.aperture.wanted(), LEAST);
}

#[tokio::test(start_paused = true)]
async fn those_that_ail_are_made_up_for_unless_all_do() {
    let mut f = Fixture::new(1_000);
    f.aperture.look(3, Instant::now());
    assert_eq!(f.aperture.wanted(), LEAST + 3);
    f.aperture.look(500, Instant::now());
    assert_eq!(f.aperture.wanted(), 5 * LEAST);
    f.aperture.narrow(0, Instant::now());
    assert_eq!(f.aperture.wanted(), LEAST);
}

#[tokio::test(start_paused = true)]
async fn connections_need_an_endpoint_each() {
    let mut f = Fixture::new(1_000);
    f.connect(100);
    assert_eq!(f.aperture.wanted(), 100);
    f.start(10);
    assert_eq!(f.aperture.wanted(), 101, "requests share one");
}
