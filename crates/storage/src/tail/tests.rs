use std::sync::atomic::AtomicU64;

use super::super::samples::{Content, FileBuilder, PATH, memory, read_all, tail, tids};
use super::*;
use crate::error::StorageError;
use crate::format::{Corruption, TransactionStatus};
use crate::memory::MemoryVfs;
use zrs_vfs::VfsFile;

/// Replace the file like a pack; calls `between` after the first rename.
fn pack(vfs: &MemoryVfs, bytes: &[u8], between: impl FnOnce()) {
    vfs.create("/Data.fs.pack", bytes);
    vfs.rename(PATH, "/Data.fs.old");
    between();
    vfs.rename("/Data.fs.pack", PATH);
}

#[test]
fn appended_transactions_are_returned() {
    let all = FileBuilder::uniform(3, 10);
    let (vfs, file) = memory(&FileBuilder::uniform(1, 10).bytes);
    let mut tail = tail(&vfs, 0);
    assert_eq!(tids(&mut tail).unwrap(), [10]);
    assert_eq!(tids(&mut tail).unwrap(), [0; 0]);
    file.rewrite(0, &all.bytes);
    assert_eq!(tids(&mut tail).unwrap(), [20, 30]);
    assert_eq!(tail.last(), Tid::from_u64(30));
    assert_eq!(tail.position(), all.end());
}

#[test]
fn a_limit_holds_back_what_is_later() {
    let (vfs, _) = memory(&FileBuilder::uniform(3, 10).bytes);
    let mut tail = tail(&vfs, 0);
    let mut next = |limit| {
        let transaction = tail.next(Some(Tid::from_u64(limit))).unwrap();
        transaction.map(|transaction| transaction.tid.as_u64())
    };
    assert_eq!(next(9), None);
    assert_eq!(next(10), Some(10));
    assert_eq!(next(10), None);
    assert_eq!(next(25), Some(20));
    assert_eq!(next(25), None);
    assert_eq!(next(30), Some(30));
}

#[test]
fn a_file_that_is_being_created_is_followed() {
    let (vfs, file) = memory(b"");
    let mut tail = tail(&vfs, 0);
    assert_eq!(tids(&mut tail).unwrap(), [0; 0]);
    file.rewrite(0, b"FS");
    assert_eq!(tids(&mut tail).unwrap(), [0; 0]);
    file.rewrite(0, &FileBuilder::uniform(2, 10).bytes);
    assert_eq!(tids(&mut tail).unwrap(), [10, 20]);
}

#[test]
fn other_files_are_refused() {
    let (vfs, file) = memory(b"%PDF-1.7");
    let open = || Tail::open(vfs.clone(), Path::new(PATH), Tid::ZERO, None);
    let refused =
        |error| matches!(error, Some(StorageError::UnknownMagic { found, .. }) if found == b"%PDF");
    assert!(refused(open().err()));
    file.rewrite(0, b"");
    let mut tail = open().unwrap();
    file.rewrite(0, b"%PDF-1.7");
    assert!(refused(tail.next(None).err()));
    assert!(refused(tail.next(None).err()));
}

#[test]
fn a_transaction_cut_at_any_byte_is_pending() {
    let mut all = FileBuilder::uniform(2, 10);
    let end = all.bytes.len();
    let data = |size| Content::Data(vec![b't'; size]);
    all.add(
        30,
        &[(1, data(30)), (2, Content::Backpointer(0)), (3, data(1))],
    );
    for cut in 0..all.bytes.len() {
        let (vfs, file) = memory(&all.bytes[..cut]);
        let mut tail = tail(&vfs, 0);
        let finished = read_all(&mut tail).unwrap().len();
        let expected = all.transactions[1..]
            .iter()
            .filter(|(_, at)| *at <= cut as u64);
        assert_eq!(
            finished,
            expected.count() + usize::from(cut >= all.bytes.len())
        );
        file.rewrite(cut, &all.bytes[cut..]);
        assert_eq!(finished + read_all(&mut tail).unwrap().len(), 3);
    }
    assert!(end < all.bytes.len());
}

#[test]
fn a_vote_is_pending_and_may_be_cut_off() {
    // A voted and then aborted transaction must not be returned later, although the window held
    // it: another transaction is in its place.
    let mut voted = FileBuilder::uniform(2, 10);
    let end = voted.end();
    let record = |byte: u8, size| [(9, Content::Data(vec![byte; size]))];
    voted.add_with(30, TransactionStatus::Voted, &record(b'a', 100));
    let mut other = FileBuilder::uniform(2, 10);
    other.add(31, &record(b'b', 70)).add(32, &record(b'c', 5));

    let (vfs, file) = memory(&voted.bytes);
    let mut tail = tail(&vfs, 0);
    assert_eq!(tids(&mut tail).unwrap(), [10, 20]);
    file.rewrite(usize::try_from(end).unwrap(), b"");
    assert_eq!(tids(&mut tail).unwrap(), [0; 0]);
    file.rewrite(0, &other.bytes);
    let delivered = read_all(&mut tail).unwrap();
    assert_eq!(delivered.len(), 2);
    assert_eq!(delivered[0].0, Tid::from_u64(31));
    assert_eq!(delivered[0].1[0].data.as_deref(), Some(&[b'b'; 70][..]));
    assert_eq!(delivered[1].1[0].data.as_deref(), Some(&[b'c'; 5][..]));
}

#[test]
fn an_aborted_vote_in_the_window_is_read_again() {
    let mut voted = FileBuilder::uniform(2, 10);
    let end = usize::try_from(voted.end()).unwrap();
    let record = |byte: u8| [(9, Content::Data(vec![byte; 100]))];
    voted.add_with(30, TransactionStatus::Voted, &record(b'a'));
    let mut other = FileBuilder::uniform(2, 10);
    other.add(31, &record(b'b'));

    let (vfs, file) = memory(&voted.bytes);
    let mut tail = tail(&vfs, 0);
    // The window now holds the whole file.
    assert_eq!(tail.next(None).unwrap().unwrap().tid, Tid::from_u64(10));
    file.rewrite(end, &other.bytes[end..]);
    let delivered = read_all(&mut tail).unwrap();
    assert_eq!(delivered.len(), 2);
    assert_eq!(delivered[1].0, Tid::from_u64(31));
    assert_eq!(delivered[1].1[0].data.as_deref(), Some(&[b'b'; 100][..]));
}

#[test]
fn a_finished_vote_is_returned() {
    let mut voted = FileBuilder::uniform(1, 10);
    voted.add_with(
        20,
        TransactionStatus::Voted,
        &[(9, Content::Data(vec![1; 9]))],
    );
    let status_at = usize::try_from(voted.transactions[1].1).unwrap() + 16;
    let (vfs, file) = memory(&voted.bytes);
    let mut tail = tail(&vfs, 0);
    assert_eq!(tids(&mut tail).unwrap(), [10]);
    file.set_byte(status_at, b' ');
    assert_eq!(tids(&mut tail).unwrap(), [20]);
}

#[test]
fn statuses_are_returned_unchanged() {
    let mut file = FileBuilder::new();
    file.add_with(10, TransactionStatus::Packed, &[]);
    file.add_with(20, TransactionStatus::Undone, &[]);
    file.add(30, &[]);
    let (vfs, _) = memory(&file.bytes);
    let mut tail = tail(&vfs, 0);
    let mut statuses = Vec::new();
    while let Some(transaction) = tail.next(None).unwrap() {
        assert_eq!(&transaction.user[..], b"user");
        assert_eq!(&transaction.description[..], b"description");
        assert_eq!(&transaction.extension[..], b"}.");
        statuses.push(transaction.status.as_byte());
    }
    assert_eq!(statuses, *b"pu ");
}

#[test]
fn a_tail_continues_after_a_pack() {
    let old = FileBuilder::uniform(5, 10);
    let mut new = FileBuilder::new();
    // The pack drops 10, 20 and 40.
    new.add_with(30, TransactionStatus::Packed, &[]);
    new.add(50, &[]).add(60, &[]);
    for (delivered, rest) in [
        (0, &[10, 20, 30, 40, 50, 60][..]),
        (3, &[40, 50, 60]),
        (4, &[50, 60]),
        (5, &[60]),
    ] {
        let (vfs, _) = memory(&old.bytes);
        let mut tail = tail(&vfs, 0);
        for _ in 0..delivered {
            assert!(tail.next(None).unwrap().is_some());
        }
        // The rest of the old file is read from it, since it is still open.
        pack(&vfs, &new.bytes, || {});
        assert_eq!(tids(&mut tail).unwrap(), rest, "{delivered}");
    }
}

#[test]
fn the_place_of_a_dropped_transaction_is_found_after_a_pack() {
    let (vfs, _) = memory(&FileBuilder::uniform(5, 10).bytes);
    let mut tail = tail(&vfs, 0);
    assert_eq!(tids(&mut tail).unwrap().len(), 5);
    let mut new = FileBuilder::new();
    new.add(10, &[]).add(30, &[]);
    let file = vfs.create("/Data.fs.pack", &new.bytes);
    vfs.rename(PATH, "/Data.fs.old");
    vfs.rename("/Data.fs.pack", PATH);
    assert_eq!(tids(&mut tail).unwrap(), [0; 0]);
    new.add(60, &[]);
    file.rewrite(0, &new.bytes);
    assert_eq!(tids(&mut tail).unwrap(), [60]);
}

#[test]
fn between_the_renames_no_transaction_is_returned() {
    let (vfs, _) = memory(&FileBuilder::uniform(2, 10).bytes);
    let mut tail = tail(&vfs, 0);
    assert_eq!(tids(&mut tail).unwrap(), [10, 20]);
    pack(&vfs, &FileBuilder::uniform(3, 20).bytes, || {
        assert!(tail.next(Some(Tid::from_u64(30))).unwrap().is_none());
    });
    assert_eq!(tids(&mut tail).unwrap(), [30]);
}

#[test]
fn records_of_a_transaction_outlive_its_file() {
    let (vfs, _) = memory(&FileBuilder::uniform(1, 10).bytes);
    let mut tail = tail(&vfs, 0);
    let first = tail.next(None).unwrap().unwrap();
    pack(&vfs, &FileBuilder::uniform(2, 3).bytes, || {});
    assert_eq!(tids(&mut tail).unwrap(), [20]);
    for record in [tail.records(&first).next(), first.records().next()] {
        assert_eq!(
            record.unwrap().unwrap().data.as_deref(),
            Some(&[b'd'; 10][..])
        );
    }
}

#[test]
fn a_search_after_a_pack_can_be_stopped() {
    let (vfs, _) = memory(&FileBuilder::uniform(2, 10).bytes);
    let stop = Arc::new(AtomicBool::new(false));
    let path = Path::new(PATH);
    let open = |vfs: &Arc<MemoryVfs>| {
        Tail::open_stoppable(
            vfs.clone(),
            path,
            Tid::from_u64(10),
            None,
            None,
            stop.clone(),
        )
    };
    let mut tail = open(&vfs).unwrap().unwrap();
    assert_eq!(tids(&mut tail).unwrap(), [20]);
    pack(&vfs, &FileBuilder::uniform(3, 10).bytes, || {});
    stop.store(true, Ordering::Relaxed);
    assert!(tail.next(None).unwrap().is_none());
    assert!(open(&vfs).unwrap().is_none());
    stop.store(false, Ordering::Relaxed);
    assert_eq!(tids(&mut tail).unwrap(), [30]);
}

#[test]
fn cutting_off_a_returned_transaction_is_corrupt() {
    let (vfs, file) = memory(&FileBuilder::uniform(2, 10).bytes);
    let mut tail = tail(&vfs, 0);
    assert_eq!(tids(&mut tail).unwrap(), [10, 20]);
    file.rewrite(30, b"");
    for _ in 0..2 {
        match tail.next(None) {
            Err(StorageError::Corrupt {
                position,
                corruption,
                ..
            }) => {
                assert_eq!(position, tail.position());
                assert_eq!(corruption, Corruption::Truncated { length: 30 });
            }
            other => panic!("{:?}", other.map(|_| ())),
        }
    }
}

#[test]
fn a_transaction_that_is_not_later_than_the_last_is_corrupt() {
    let mut file = FileBuilder::uniform(2, 10);
    file.add(20, &[]);
    let (vfs, _) = memory(&file.bytes);
    let mut tail = tail(&vfs, 0);
    let position_of_third = file.transactions[2].1;
    match tids(&mut tail) {
        Err(StorageError::Corrupt {
            position,
            corruption,
            ..
        }) => {
            let tid = Tid::from_u64(20);
            assert_eq!(position, position_of_third);
            assert_eq!(
                corruption,
                Corruption::TidOrder {
                    found: tid,
                    previous: tid
                }
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(tail.last(), Tid::from_u64(20));
}

#[test]
fn a_known_end_shortens_the_search_after_a_pack() {
    let cost = |known_end: bool| {
        let (vfs, _) = memory(&FileBuilder::uniform(20_000, 100).bytes);
        let mut tail = tail(&vfs, 199_990);
        assert_eq!(tids(&mut tail).unwrap(), [200_000]);
        let new = FileBuilder::uniform(20_001, 90);
        let file = vfs.create("/Data.fs.pack", &new.bytes);
        vfs.rename(PATH, "/Data.fs.old");
        vfs.rename("/Data.fs.pack", PATH);
        if known_end {
            tail.set_known_end(new.end());
        }
        assert_eq!(tids(&mut tail).unwrap(), [200_010]);
        file.reads()
    };
    let (short, long) = (cost(true), cost(false));
    assert!(short < 12 && long > 20, "{short} {long}");
}

/// A file whose first read of a header is interrupted in the middle, while the vote there is
/// aborted and another transaction takes its place: the read returns the id of one and the rest
/// of the other.
struct InterruptedRead {
    file: Arc<dyn VfsFile>,
    header_at: u64,
    aborted: [u8; 8],
    interrupted: AtomicU64,
}

impl VfsFile for InterruptedRead {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let count = self.file.read_at(buffer, offset)?;
        let at = usize::try_from(self.header_at - offset.min(self.header_at)).unwrap();
        let holds_header = offset <= self.header_at && at + 23 <= count;
        if holds_header && self.interrupted.fetch_add(1, Ordering::Relaxed) == 0 {
            buffer[at..at + 8].copy_from_slice(&self.aborted);
        }
        Ok(count)
    }

    fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }
}

#[test]
fn a_header_read_while_another_transaction_took_its_place_is_read_again() {
    let file = FileBuilder::uniform(2, 10);
    let (vfs, _) = memory(&file.bytes);
    let file = InterruptedRead {
        file: vfs.open_read(Path::new(PATH)).unwrap(),
        header_at: file.transactions[1].1,
        aborted: 15_u64.to_be_bytes(),
        interrupted: AtomicU64::new(0),
    };
    let path: Arc<Path> = Path::new(PATH).into();
    let mut reader = Reader::new(DataFile::new(Arc::new(file), &path));
    let first = reader.transaction(4, Tid::ZERO).unwrap().unwrap();
    let second = reader.transaction(first.end(), first.tid).unwrap();
    assert_eq!(second.unwrap().tid, Tid::from_u64(20));
}
