//! Pages in virtual time.

use super::*;

const STALE: Duration = Duration::from_secs(3);

struct Proxy {
    history: History,
    now: Instant,
}

impl Proxy {
    fn new() -> Self {
        let now = Instant::now();
        let history = History::new(now);
        Self { history, now }
    }

    fn page(&mut self, secs: u64, page: &str) {
        self.now += Duration::from_secs(secs);
        self.history.observe(page, self.now).expect("a page");
    }

    fn inbound(&self, secs: u64) -> Window {
        let length = Duration::from_secs(secs);
        self.history
            .window(&Track::Inbound, length, STALE, self.now)
    }
}

fn responses(success: u64, failure: u64) -> String {
    let of = |class: &str, count| {
        format!("response_total{{direction=\"inbound\",classification=\"{class}\"}} {count}\n")
    };
    of("success", success) + &of("failure", failure)
}

#[test]
fn numbers_beyond_all_measure_are_survived() {
    let mut proxy = Proxy::new();
    proxy.page(0, "");
    let huge = |direction: &str, class: &str| {
        let labels = format!("direction=\"{direction}\",classification=\"{class}\"");
        format!("response_total{{{labels}}} 1e30\nresponse_total{{{labels},x=\"\"}} +Inf\n")
    };
    let open = "tcp_open_connections{direction=\"inbound\",peer=\"src\"} 1e30\n";
    let more = open.replace("peer", "x=\"\",peer");
    for _ in 0..20 {
        proxy.page(1, &(huge("inbound", "success") + open + &more));
        proxy.page(1, "");
    }
    let mut window = proxy.inbound(600);
    assert!(window.success > 1e18 && window.success.is_finite());
    proxy.page(1, &(open.to_owned() + &more));
    window.merge(&proxy.inbound(600));
    window.merge(&proxy.inbound(600));
    assert_eq!(window.open, Some(u64::MAX));
}

#[test]
fn the_first_page_counts_nothing() {
    let mut proxy = Proxy::new();
    proxy.page(0, &responses(1000, 10));
    assert_eq!(proxy.inbound(60), Window::default());
    proxy.page(1, &responses(1010, 11));
    let window = proxy.inbound(60);
    assert_eq!(
        (window.success, window.failure, window.covered_secs),
        (10.0, 1.0, 1.0)
    );
}

#[test]
fn a_window_takes_a_share_of_what_it_cuts() {
    let mut proxy = Proxy::new();
    proxy.page(0, &responses(0, 0));
    proxy.page(10, &responses(100, 0));
    proxy.page(10, &responses(100, 0));
    let window = proxy.inbound(15);
    assert_eq!((window.success, window.covered_secs), (50.0, 15.0));
    assert_eq!(proxy.inbound(10).success, 0.0);
}

#[test]
fn a_restart_counts_from_zero_and_a_lost_series_is_no_restart() {
    let endpoint = |port: u16, count: u64| {
        format!(
            "response_total{{direction=\"outbound\",dst_namespace=\"demo\",dst_service=\"api\",\
             target_port=\"{port}\",classification=\"success\"}} {count}\n"
        )
    };
    let track = Track::Outbound {
        namespace: "demo".into(),
        service: "api".into(),
    };
    let mut proxy = Proxy::new();
    proxy.page(0, &(endpoint(1, 1000) + &endpoint(2, 1000)));
    proxy.page(1, &endpoint(1, 1005));
    proxy.page(1, &(endpoint(1, 3) + &endpoint(3, 4)));
    let length = Duration::from_secs(60);
    let window = proxy.history.window(&track, length, STALE, proxy.now);
    assert_eq!(window.success, 5.0 + 3.0 + 4.0);
}

#[test]
fn latencies_are_counted_once_each() {
    let page = |fast: u32, slow: u32, all: u32| {
        let of = |le: &str, count| {
            format!("response_latency_ms_bucket{{direction=\"inbound\",le=\"{le}\"}} {count}\n")
        };
        of("1", fast) + &of("100", slow) + &of("123", slow) + &of("+Inf", all)
    };
    let mut proxy = Proxy::new();
    proxy.page(0, &page(10, 10, 10));
    proxy.page(1, &page(15, 17, 18));
    let window = proxy.inbound(60);
    let used: Vec<_> = window
        .latency
        .iter()
        .enumerate()
        .filter(|(_, n)| **n > 0.0)
        .collect();
    assert_eq!(used, [(0, &5.0), (10, &2.0), (25, &1.0)]);
}

#[test]
fn connections_are_those_of_the_last_page() {
    let page = |open: u64, read: u64| {
        format!(
            "tcp_open_connections{{direction=\"inbound\",peer=\"src\",target_port=\"1\"}} {open}\n\
             tcp_open_connections{{direction=\"inbound\",peer=\"src\",target_port=\"2\"}} 1\n\
             tcp_open_connections{{direction=\"inbound\",peer=\"dst\"}} 100\n\
             tcp_read_bytes_total{{direction=\"inbound\",peer=\"src\"}} {read}\n"
        )
    };
    let mut proxy = Proxy::new();
    proxy.page(0, &page(3, 0));
    assert_eq!(proxy.inbound(60).open, Some(4));
    proxy.page(2, &page(0, 500));
    let window = proxy.inbound(60);
    assert_eq!((window.open, window.read), (Some(1), 500.0));
    proxy.page(1, "");
    assert_eq!(proxy.inbound(60).open, Some(0));
}

#[test]
fn a_proxy_that_is_gone_fades_out() {
    let mut proxy = Proxy::new();
    proxy.page(0, &responses(0, 0));
    proxy.page(10, &responses(100, 0));
    proxy.now += Duration::from_secs(2);
    assert_eq!(proxy.inbound(10).success, 100.0);
    proxy.now += Duration::from_secs(3);
    assert_eq!(proxy.inbound(10).success, 50.0);
    proxy.now += Duration::from_secs(10);
    assert_eq!(proxy.inbound(10).success, 0.0);
}

#[test]
fn ten_minutes_are_few_spans_and_no_count_is_lost() {
    let mut proxy = Proxy::new();
    for second in 0..=2000 {
        proxy.page(1, &responses(second * 10, 0));
    }
    let spans = proxy.history.tracks[&Track::Inbound].spans.len();
    assert!(spans <= 50, "{spans}");
    for secs in [5, 30, 60, 300, 600] {
        let rate = proxy.inbound(secs).success / proxy.inbound(secs).covered_secs;
        assert!((rate - 10.0).abs() < 1e-6, "{rate} over {secs} s");
    }
}

#[test]
fn a_malformed_page_leaves_things_as_they_were() {
    let mut proxy = Proxy::new();
    proxy.page(0, &responses(0, 0));
    proxy.page(1, &responses(10, 0));
    let error = proxy.history.observe("response_total{", proxy.now);
    assert!(error.is_err());
    assert_eq!(proxy.inbound(60).success, 10.0);
}
