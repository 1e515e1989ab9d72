//! Which connection a stream goes on, and for how long one is kept.

use super::*;
use tokio::task::LocalSet;

/// A connection to nobody, which has room for so many streams.
async fn connection(max_streams: usize) -> Connection {
    let (near, _far) = tokio::io::duplex(1024);
    let (sender, _) = h2::client::handshake(near).await.unwrap();
    let usage = usage(u32::MAX, 1);
    usage.limit_to(max_streams);
    Connection { sender, usage }
}

fn usage(connection_window: u32, stream_window: u32) -> Rc<Usage> {
    Rc::new(Usage {
        streams: Cell::new(0),
        max_streams: Cell::new(0),
        windows: Http2Client {
            stream_window,
            connection_window,
        },
        is_closed: Cell::new(false),
        last: Cell::new(Instant::now()),
    })
}

async fn connections(n: usize, max_streams: usize) -> Rc<Connections> {
    let connections = Rc::<Connections>::default();
    for _ in 0..n {
        let connection = connection(max_streams).await;
        connections.open.borrow_mut().push(connection);
    }
    connections
}

fn in_use(connections: &Connections) -> Vec<usize> {
    let open = connections.open.borrow();
    open.iter().map(|c| c.usage.streams.get()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_filled_before_the_next_one_is_used() {
    let connections = connections(2, 2).await;
    let mut streams: Vec<_> = (0..3).filter_map(|_| connections.find()).collect();
    assert_eq!(in_use(&connections), [2, 1]);
    streams.remove(0);
    streams.extend(connections.find());
    assert_eq!(in_use(&connections), [2, 1]);
    streams.extend(connections.find());
    assert!(connections.find().is_none(), "there may be another one");
    connections.open.borrow()[0].usage.is_closed.set(true);
    assert!(connections.find().is_none());
    assert_eq!(in_use(&connections), [2], "what is closed is forgotten");
}

#[tokio::test(start_paused = true)]
async fn when_there_may_be_no_more_the_least_used_one_takes_the_stream() {
    let connections = connections(MAX_CONNECTIONS, 1).await;
    let streams: Vec<_> = (0..MAX_CONNECTIONS + 2)
        .filter_map(|_| connections.find())
        .collect();
    assert_eq!(streams.len(), MAX_CONNECTIONS + 2);
    let in_use = in_use(&connections);
    assert_eq!(in_use.len(), MAX_CONNECTIONS);
    assert!(in_use.iter().all(|n| matches!(n, 1 | 2)), "{in_use:?}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_streams_is_closed_after_a_while() {
    let idle_out = async {
        let connections = connections(2, 1).await;
        let stream = connections.find();
        connections.is_swept.set(true);
        spawn_local(sweep(Rc::downgrade(&connections)));
        sleep(IDLE_TIMEOUT - Duration::from_secs(1)).await;
        assert_eq!(in_use(&connections), [1, 0]);
        sleep(IDLE_TIMEOUT).await;
        assert_eq!(in_use(&connections), [1], "what is in use is kept");
        drop(stream);
        sleep(IDLE_TIMEOUT - Duration::from_secs(1)).await;
        assert_eq!(in_use(&connections), [0], "it idles from now on");
        sleep(IDLE_TIMEOUT).await;
        assert!(in_use(&connections).is_empty());
        assert!(!connections.is_swept.get(), "nothing is left to look after");
    };
    LocalSet::new().run_until(idle_out).await;
}

#[test]
fn no_more_streams_than_can_stand_still_go_on_a_connection() {
    for (connection_window, stream_window, allowed, want) in [
        (1 << 20, 1 << 16, 100, 16),
        (1 << 20, 1 << 16, 4, 4),
        (64 << 20, 65_535, 1_000, 1_000),
        (1 << 16, 1 << 20, 100, 1),
        (1 << 16, 0, usize::MAX, 1 << 16),
    ] {
        let usage = usage(connection_window, stream_window);
        usage.limit_to(allowed);
        assert_eq!(usage.max_streams.get(), want);
    }
}
