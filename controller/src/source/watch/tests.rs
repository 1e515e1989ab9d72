//! Real files, and what the kernel says of them, said by the tests.

use super::*;
use notify::event::{DataChange, MetadataKind, RemoveKind};

const MOMENT: Duration = Duration::from_millis(1);

struct Dir {
    temp: tempfile::TempDir,
    watch: Watch,
}

impl Dir {
    /// The kernel is not asked.
    fn deaf() -> Self {
        let watch = Watch::new(Vec::new(), Duration::ZERO);
        let temp = tempfile::tempdir().expect("a directory");
        Self { temp, watch }
    }

    fn path(&self) -> PathBuf {
        self.temp.path().join("a.yaml")
    }

    fn write(&self, text: &str) -> Stamp {
        fs::write(self.path(), text).expect("written");
        Stamp::of(&self.path()).expect("a file")
    }

    fn told(&self, kind: EventKind) -> bool {
        self.watch.events.note(&self.path(), kind)
    }
}

const WRITTEN: EventKind = EventKind::Modify(ModifyKind::Data(DataChange::Any));
const CLOSED: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Write));
const READ: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Read));
const MOVED_HERE: EventKind = EventKind::Modify(ModifyKind::Name(RenameMode::To));
const TOUCHED: EventKind = EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any));

#[test]
fn a_file_is_whole_once_it_is_closed_or_moved_into_place() {
    for end in [CLOSED, MOVED_HERE] {
        let dir = Dir::deaf();
        let stamp = dir.write("half");
        let now = Instant::now();
        let whole = |stamp: &Stamp, age| dir.watch.whole(&dir.path(), stamp, now, now + age);
        assert!(!dir.told(WRITTEN), "no look while it is written");
        assert!(!dir.told(READ), "nor for a reader");
        assert!(!whole(&stamp, SETTLE * 2));
        let stamp = dir.write("half and half");
        assert!(dir.told(end));
        assert!(whole(&stamp, Duration::ZERO));
        let later = dir.write("written again");
        assert!(!whole(&later, Duration::ZERO));
        assert!(dir.told(EventKind::Remove(RemoveKind::File)));
        assert!(!whole(&stamp, Duration::ZERO));
    }
}

#[test]
fn a_file_of_which_nobody_tells_has_to_settle() {
    let dir = Dir::deaf();
    let (stamp, now) = (dir.write("x"), Instant::now());
    let whole = |now| dir.watch.whole(&dir.path(), &stamp, now, now + SETTLE);
    assert!(whole(now));
    let changed = Pending::at(None, stamp, now);
    assert_eq!(Pending::at(Some(changed), stamp, now + SETTLE).since, now);
    let again = Pending::at(Some(changed), dir.write("xx"), now + MOMENT);
    assert_eq!(again.since, now + MOMENT);
}

#[test]
fn a_writer_that_never_closes_does_not_hold_a_file_for_ever() {
    let dir = Dir::deaf();
    let stamp = dir.write("x");
    dir.told(WRITTEN);
    let now = Instant::now();
    let whole = |age| dir.watch.whole(&dir.path(), &stamp, now, now + age);
    assert!(!whole(WRITER_RESTS / 2));
    assert!(whole(WRITER_RESTS));
}

#[test]
fn what_tools_set_after_they_close_a_file_does_not_make_it_wait() {
    let dir = Dir::deaf();
    let before = dir.write("x");
    dir.told(CLOSED);
    let file = fs::File::open(dir.path()).expect("a file");
    file.set_modified(SystemTime::UNIX_EPOCH).expect("set");
    let (stamp, now) = (Stamp::of(&dir.path()).expect("a file"), Instant::now());
    assert_ne!(stamp, before);
    dir.told(TOUCHED);
    assert!(dir.watch.whole(&dir.path(), &stamp, now, now));
}

#[test]
fn another_file_of_the_same_size_and_time_shows() {
    let dir = Dir::deaf();
    let epoch = || {
        let file = fs::File::open(dir.path()).expect("a file");
        file.set_modified(SystemTime::UNIX_EPOCH).expect("set");
        Stamp::of(&dir.path()).expect("a file")
    };
    dir.write("one");
    let one = epoch();
    fs::rename(dir.path(), dir.temp.path().join("old")).expect("renamed");
    dir.write("two");
    let two = epoch();
    assert_eq!((one.size, one.modified), (two.size, two.modified));
    assert_ne!(one, two);
    assert!(!two.settled(), "whatever its times say, it is new");
}

#[test]
fn a_directory_in_the_place_of_another_is_watched() {
    let temp = tempfile::tempdir().expect("a directory");
    let dir = temp.path().join("d");
    let mut watch = Watch::new(vec![dir.clone()], Duration::ZERO);
    fs::create_dir(&dir).expect("made");
    assert!(watch.renew(), "one that was missing");
    fs::rename(&dir, temp.path().join("old")).expect("renamed");
    fs::create_dir(&dir).expect("made");
    assert!(watch.renew(), "one in its place");
}

#[tokio::test(start_paused = true)]
async fn without_events_there_is_a_look_every_few_seconds() {
    let mut watch = Watch::new(Vec::new(), Duration::ZERO);
    let start = time::Instant::now();
    watch.changed().await;
    assert_eq!(start.elapsed(), RESCAN);
    watch.look_again();
    watch.changed().await;
    assert_eq!(start.elapsed(), RESCAN + SETTLE);
    watch.events.start_over();
    watch.changed().await;
    assert_eq!(
        start.elapsed(),
        RESCAN + SETTLE,
        "an event is not waited for"
    );
}
