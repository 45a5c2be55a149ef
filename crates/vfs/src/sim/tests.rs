mod possible;
mod sweep;

use std::collections::BTreeSet;

use super::*;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

fn at(path: &str) -> &Path {
    Path::new(path)
}

/// A file system with the durable file "f".
fn with_file(content: &[u8]) -> (SimVfs, Arc<dyn VfsFile>) {
    let vfs = SimVfs::with_files(7, [("f", content.to_vec())]);
    let file = vfs.open_write(at("f")).unwrap();
    (vfs, file)
}

/// All that "f" may be after a crash at this moment.
fn outcomes(vfs: &SimVfs) -> BTreeSet<Option<Vec<u8>>> {
    let images = vfs.crash_images(vfs.operations());
    images
        .map(|image| image.content("f").map(<[u8]>::to_vec))
        .collect()
}

fn read(file: &dyn VfsFile) -> Vec<u8> {
    let mut buffer = vec![0; 100_000];
    let count = file.read_full_at(&mut buffer, 0).unwrap();
    buffer.truncate(count);
    buffer
}

#[test]
fn a_running_system_sees_what_it_did() {
    let vfs = SimVfs::new(0);
    let file = vfs.create(at("a")).unwrap();
    file.write_all_at(b"hello", 2).unwrap();
    assert_eq!(read(&*file), b"\0\0hello");
    file.set_len(4).unwrap();
    file.set_len(6).unwrap();
    assert_eq!(read(&*file), b"\0\0he\0\0");
    assert_eq!(vfs.metadata(at("a")).unwrap(), file.metadata().unwrap());

    vfs.link(at("a"), at("b")).unwrap();
    assert!(vfs.link(at("a"), at("b")).is_err());
    vfs.rename(at("a"), at("b")).unwrap();
    assert_eq!(
        vfs.paths(),
        [at("a"), at("b")],
        "two names of one file stay"
    );
    vfs.remove(at("a")).unwrap();
    vfs.create(at("c")).unwrap();
    vfs.rename(at("c"), at("b")).unwrap();
    assert_eq!(vfs.content("b").unwrap(), b"");
    assert_eq!(
        read(&*file),
        b"\0\0he\0\0",
        "an open file outlives its names"
    );

    assert!(vfs.open_write(at("a")).is_err());
    assert!(vfs.remove(at("a")).is_err());
    let reader = vfs.open_read(at("b")).unwrap();
    let error = reader.write_all_at(b"x", 0).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(9));
    vfs.open_write(at("b"))
        .unwrap()
        .write_all_at(b"x", 0)
        .unwrap();
    vfs.create(at("b")).unwrap();
    assert_eq!(vfs.content("b").unwrap(), b"", "created anew, it is empty");
}

#[test]
fn a_name_needs_a_directory_to_be_in() {
    let vfs = SimVfs::with_files(0, [("/f", Vec::new()), ("one/two/f", Vec::new())]);
    let missing = |done: io::Result<()>| done.unwrap_err().kind() == io::ErrorKind::NotFound;
    let file = at("one/two/f");
    assert!(missing(vfs.create(at("one/new/f")).map(drop)));
    assert!(missing(vfs.link(file, at("one/new/f"))));
    assert!(missing(vfs.rename(file, at("one/new/f"))));
    assert!(missing(vfs.create_directory(at("one/new/new"))));
    let inside_file = vfs.create(at("one/two/f/f")).map(drop).unwrap_err();
    assert_eq!(inside_file.kind(), io::ErrorKind::NotADirectory);
    assert_eq!(vfs.operations(), 0);

    vfs.create_directory(at("one/new")).unwrap();
    vfs.rename(file, at("one/new/f")).unwrap();
    vfs.create(at("/g")).unwrap();
    vfs.create(at("g")).unwrap();
}

#[test]
fn what_is_synced_survives() {
    let (vfs, file) = with_file(b"old");
    file.write_all_at(b"new", 0).unwrap();
    file.set_len(2).unwrap();
    file.sync_data().unwrap();
    assert_eq!(outcomes(&vfs), BTreeSet::from([Some(b"ne".to_vec())]));
}

#[test]
fn what_is_not_synced_survives_or_not() {
    let (vfs, file) = with_file(b"old");
    file.write_all_at(b"new", 0).unwrap();
    let expected = [b"old", b"new"].map(|content| Some(content.to_vec()));
    assert_eq!(outcomes(&vfs), BTreeSet::from(expected));
    // A crash before the write.
    let before: Vec<_> = vfs.crash_images(0).collect();
    assert_eq!(before.len(), 1);
    assert_eq!(before[0].content("f").unwrap(), b"old");
}

#[test]
fn writes_are_reordered() {
    let (vfs, file) = with_file(&[0; 2048]);
    for sector in 0..4 {
        file.write_all_at(&[1], sector * 512).unwrap();
    }
    let written = |content: &[u8]| content.chunks(512).map(|sector| sector[0]).collect();
    let outcomes: BTreeSet<Vec<u8>> = outcomes(&vfs)
        .iter()
        .flatten()
        .map(|content| written(content))
        .collect();
    assert_eq!(outcomes.len(), 16, "each combination of four writes");
}

#[test]
fn writes_are_torn_at_sectors() {
    let (vfs, file) = with_file(&[0; 512 * 5]);
    file.write_all_at(&[1; 512 * 4], 100).unwrap();
    let mut partial = 0;
    for content in outcomes(&vfs).iter().flatten() {
        let counts: Vec<_> = (content.chunks(512))
            .map(|sector| sector.iter().map(|byte| usize::from(*byte)).sum::<usize>())
            .collect();
        for (sector, whole) in counts.iter().zip([412, 512, 512, 512, 100]) {
            assert!(
                *sector == 0 || *sector == whole,
                "a sector is not torn: {counts:?}"
            );
        }
        partial += usize::from(counts.iter().sum::<usize>() % 2048 != 0);
    }
    assert!(partial >= 4, "{partial} torn");
    let first = |content: &Vec<u8>| content[100] == 0 && content[2100] == 1;
    assert!(
        outcomes(&vfs).iter().flatten().any(first),
        "the end came before the beginning"
    );
}

/// The page cache holds one content of a sector at a time, so a later write does not reach
/// the disk without an earlier one to the same sector.
#[test]
fn writes_to_one_sector_stay_in_order() {
    let (vfs, file) = with_file(b"..");
    file.write_all_at(b"1", 0).unwrap();
    file.write_all_at(b"2", 1).unwrap();
    let expected = [b"..", b"1.", b"12"].map(|content| Some(content.to_vec()));
    assert_eq!(outcomes(&vfs), BTreeSet::from(expected));
}

#[test]
fn a_length_survives_without_the_data() {
    let (vfs, file) = with_file(b"");
    file.write_all_at(b"data", 0).unwrap();
    let expected = [&b""[..], b"data", b"\0\0\0\0"].map(|content| Some(content.to_vec()));
    assert_eq!(outcomes(&vfs), BTreeSet::from(expected));
}

#[test]
fn what_was_cut_off_does_not_come_back() {
    let (vfs, file) = with_file(b"secret");
    file.set_len(2).unwrap();
    file.write_all_at(b"x", 7).unwrap();
    let known: [&[u8]; 5] = [
        b"secret",
        b"se",
        b"se\0\0\0\0\0x",
        b"se\0\0\0\0\0\0",
        // The sector is on the disk with its new content, the cut is not.
        b"se\0\0\0\0",
    ];
    let known = known.map(|content| Some(content.to_vec()));
    assert_eq!(outcomes(&vfs), BTreeSet::from(known));
}

#[test]
fn a_cut_is_not_reordered_with_what_is_written_after_it() {
    let (vfs, file) = with_file(&[b'o'; 2000]);
    file.set_len(0).unwrap();
    file.write_all_at(b"n", 1200).unwrap();
    let mut lengths = BTreeSet::new();
    for content in outcomes(&vfs).iter().flatten() {
        let old = content.len() == 2000;
        let fits = |byte: &u8| (*byte == b'o') == old;
        assert!(content.iter().all(fits), "{} bytes", content.len());
        lengths.insert(content.len());
    }
    assert_eq!(lengths, BTreeSet::from([0, 1201, 2000]));
}

/// Also where there are too many changes to try all combinations.
#[test]
fn some_images_come_always() {
    const WRITES: usize = 20;
    let (vfs, file) = with_file(&vec![0; 1024 * WRITES]);
    let vfs = vfs.with_samples(0);
    for write in 0..WRITES as u64 {
        file.write_all_at(&[1; 1024], write * 1024).unwrap();
    }
    vfs.rename(at("f"), at("g")).unwrap();
    for path in ["f", "g"] {
        let images = vfs.crash_images(vfs.operations());
        let found: BTreeSet<Vec<usize>> = images
            .filter_map(|image| image.content(path).map(<[u8]>::to_vec))
            .map(|content| {
                content
                    .chunks(512)
                    .map(|sector| usize::from(sector[0]))
                    .collect()
            })
            .collect();
        let with = |base: usize, changes: &[(usize, usize)]| {
            let mut sectors = vec![base; 2 * WRITES];
            for (sector, value) in changes {
                sectors[*sector] = *value;
            }
            sectors
        };
        assert!(found.contains(&with(0, &[])) && found.contains(&with(1, &[])));
        for first in (0..WRITES).map(|write| 2 * write) {
            assert!(
                found.contains(&with(1, &[(first, 0), (first + 1, 0)])),
                "one lost"
            );
            assert!(
                found.contains(&with(0, &[(first, 1), (first + 1, 1)])),
                "one alone"
            );
            assert!(found.contains(&with(1, &[(first, 0)])), "one torn");
            assert!(found.contains(&with(1, &[(first + 1, 0)])), "one torn");
        }
    }
}

#[test]
fn lengths_come_without_data_always() {
    let (vfs, file) = with_file(b"");
    let vfs = vfs.with_samples(0);
    file.write_all_at(&[1; 600], 0).unwrap();
    file.write_all_at(&[1; 600], 600).unwrap();
    assert!(outcomes(&vfs).contains(&Some(vec![0; 1200])));
}

#[test]
fn two_changes_give_four_images_without_samples() {
    let (vfs, file) = with_file(&[0; 1024]);
    let vfs = vfs.with_samples(0);
    file.write_all_at(&[1], 0).unwrap();
    file.write_all_at(&[1], 512).unwrap();
    assert_eq!(outcomes(&vfs).len(), 4);
}

/// The classic: write a new file, rename it over the old one, and lose both.
#[test]
fn a_rename_may_come_before_the_data() {
    let (vfs, _file) = with_file(b"old");
    let new = vfs.create(at("new")).unwrap();
    new.write_all_at(b"new", 0).unwrap();
    vfs.rename(at("new"), at("f")).unwrap();
    assert!(outcomes(&vfs).contains(&Some(b"".to_vec())));

    let (vfs, _file) = with_file(b"old");
    let new = vfs.create(at("new")).unwrap();
    new.write_all_at(b"new", 0).unwrap();
    new.sync_all().unwrap();
    vfs.rename(at("new"), at("f")).unwrap();
    let expected = [b"old", b"new"].map(|content| Some(content.to_vec()));
    assert_eq!(outcomes(&vfs), BTreeSet::from(expected));
    vfs.sync_directory(at("")).unwrap();
    assert_eq!(outcomes(&vfs), BTreeSet::from([Some(b"new".to_vec())]));
}

#[test]
fn names_change_in_order_and_by_directory() {
    let vfs = SimVfs::new(3).with_directory("one").with_directory("two");
    for path in ["one/a", "two/b", "one/c"] {
        vfs.create(at(path)).unwrap().sync_all().unwrap();
    }
    let names = |vfs: &SimVfs| -> BTreeSet<Vec<String>> {
        let images = vfs.crash_images(vfs.operations());
        let paths = |image: Image| {
            image
                .files()
                .map(|(path, _)| path.display().to_string())
                .collect()
        };
        images.map(paths).collect()
    };
    let some = |sets: &[&[&str]]| -> BTreeSet<Vec<String>> {
        let owned = |set: &&[&str]| set.iter().map(|&path| path.to_owned()).collect();
        sets.iter().map(owned).collect()
    };
    let prefixes: [&[&str]; 4] = [
        &[],
        &["one/a"],
        &["one/a", "two/b"],
        &["one/a", "one/c", "two/b"],
    ];
    assert_eq!(names(&vfs), some(&prefixes));
    vfs.sync_directory(at("one")).unwrap();
    assert_eq!(
        names(&vfs),
        some(&[&["one/a", "one/c"], &["one/a", "one/c", "two/b"]])
    );
    vfs.remove(at("one/a")).unwrap();
    vfs.sync_directory(at("./two")).unwrap();
    vfs.sync_directory(at("one")).unwrap();
    assert_eq!(names(&vfs), some(&[&["one/c", "two/b"]]));
}

#[test]
fn an_image_is_a_file_system_of_its_own() {
    let (vfs, file) = with_file(b"old");
    file.write_all_at(b"new", 0).unwrap();
    vfs.mark("written");
    for image in vfs.crash_images(vfs.operations()) {
        let survivor = image.open();
        assert_eq!(survivor.content("f").as_deref(), image.content("f"));
        survivor
            .create(at("g"))
            .unwrap()
            .write_all_at(b"g", 0)
            .unwrap();
        survivor
            .open_write(at("f"))
            .unwrap()
            .write_all_at(b"X", 0)
            .unwrap();
        assert_eq!(survivor.operations(), 3);
        assert_ne!(survivor.content("f").as_deref(), image.content("f"));
        assert!(image.content("g").is_none());
    }
    assert_eq!(vfs.content("f").unwrap(), b"new");
    assert_eq!(vfs.log().last(), Some(&Change::Mark("written".to_owned())));
}

fn workload(vfs: &SimVfs) -> io::Result<()> {
    let file = vfs.create(at("a"))?;
    for number in 0..40 {
        file.write_all_at(&[1; 1500], number * 700)?;
    }
    vfs.sync_directory(at(""))?;
    let length = file.metadata()?.len;
    file.set_len(length - 10)?;
    file.sync_all()?;
    file.read_at(&mut [0], 0)?;
    vfs.rename(at("a"), at("b"))?;
    vfs.open_read(at("b")).map(drop)
}

#[test]
fn equal_seeds_give_equal_images() {
    let labels = |seed| {
        let vfs = SimVfs::new(seed);
        workload(&vfs).unwrap();
        let images = (0..=vfs.operations()).flat_map(|at| vfs.crash_images(at));
        images
            .map(|image| {
                (
                    image.label().to_owned(),
                    image.content("a").map(<[u8]>::to_vec),
                )
            })
            .collect::<Vec<_>>()
    };
    let once = labels(1);
    assert!(once.len() > 1000);
    assert!(once == labels(1));
    assert!(once != labels(2));
}

#[test]
fn each_call_can_fail_alone() {
    let calls = {
        let vfs = SimVfs::new(0);
        workload(&vfs).unwrap();
        vfs.calls()
    };
    assert_eq!(calls, 48);
    for call in 0..calls {
        let vfs = SimVfs::new(0);
        let fault = Fault {
            call,
            errno: EIO,
            extent: Extent::Once,
            short: false,
        };
        vfs.fail(fault);
        let error = workload(&vfs).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(EIO));
        assert_eq!((vfs.calls(), vfs.failures()), (call + 1, 1));
        workload(&vfs).unwrap();
    }
}

#[test]
fn a_full_disk_takes_no_more_until_there_is_space() {
    let (vfs, file) = with_file(b"");
    let fault = |short| Fault {
        call: vfs.calls() + 1,
        errno: ENOSPC,
        extent: Extent::TakesSpace,
        short,
    };
    vfs.fail(fault(true));
    file.write_all_at(b"fits", 0).unwrap();
    let error = file.write_all_at(b"half way", 4).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(vfs.content("f").unwrap(), b"fitshalf");
    assert!(vfs.create(at("g")).is_err());
    assert!(vfs.link(at("f"), at("g")).is_err());
    assert!(file.set_len(100).is_err());
    file.set_len(2).unwrap();
    file.sync_all().unwrap();
    vfs.remove(at("f")).unwrap();
    vfs.clear_faults();
    vfs.fail(fault(false));
    file.write_all_at(b"!", 2).unwrap();
    assert!(file.write_all_at(b"none of it", 3).is_err());
    assert_eq!(read(&*file), b"fi!");
}

#[test]
fn a_failed_sync_loses_what_was_written() {
    let (vfs, file) = with_file(b"old old");
    file.write_all_at(b"new", 0).unwrap();
    file.write_all_at(b"longer", 600).unwrap();
    vfs.fail(Fault {
        call: vfs.calls(),
        errno: EIO,
        extent: Extent::Once,
        short: false,
    });
    assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(EIO));
    assert_eq!(
        &vfs.content("f").unwrap()[..7],
        b"new old",
        "it is still read"
    );

    file.sync_data().unwrap();
    let mut expected = b"old old".to_vec();
    expected.resize(606, 0);
    assert_eq!(
        outcomes(&vfs),
        BTreeSet::from([Some(expected.clone())]),
        "success means nothing"
    );

    // Written again, the sector is dirty again, with all that is in it.
    file.write_all_at(b"N", 0).unwrap();
    file.sync_data().unwrap();
    expected[..3].copy_from_slice(b"New");
    assert_eq!(outcomes(&vfs), BTreeSet::from([Some(expected)]));
}
