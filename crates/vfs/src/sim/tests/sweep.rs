//! Sweeps over all crashes of a small protocol, sound and unsound.

use super::*;

/// A log of records of a length byte and as many bytes, the number of records, in a file
/// of its own, being written after them: durable only if the two are synced in order.
fn append_records(vfs: &SimVfs, ordered: bool) -> io::Result<()> {
    let records = vfs.create(at("records"))?;
    let count = vfs.create(at("count"))?;
    vfs.sync_directory(at(""))?;
    for number in 1..=6_u8 {
        records.write_all_at(&[number; 600], u64::from(number - 1) * 600)?;
        if ordered {
            records.sync_data()?;
        }
        count.write_all_at(&[number], 0)?;
        count.sync_data()?;
        records.sync_data()?;
        vfs.mark(number.to_string());
    }
    Ok(())
}

/// The problems that a sweep over all crashes finds.
fn sweep(vfs: &SimVfs) -> Vec<String> {
    let mut problems = Vec::new();
    let log = vfs.log();
    for operations in 0..=log.len() {
        let marks = log[..operations]
            .iter()
            .filter(|change| matches!(change, Change::Mark(_)));
        let acknowledged = marks.count();
        for image in vfs.crash_images(operations) {
            let count = image.content("count").and_then(|count| count.first());
            let count = count.map_or(0, |count| usize::from(*count));
            let records = image.content("records").unwrap_or_default();
            let whole = records
                .chunks_exact(600)
                .zip(1..)
                .take_while(|(record, number)| record.iter().all(|byte| byte == number));
            if count < acknowledged || whole.count() < count {
                problems.push(image.label().to_owned());
            }
        }
    }
    problems
}

/// The purpose of the simulation: it finds the missing sync, and reports nothing about correct code.
#[test]
fn a_sweep_tells_a_sound_protocol_from_an_unsound_one() {
    let vfs = SimVfs::new(0);
    append_records(&vfs, true).unwrap();
    assert_eq!(sweep(&vfs), [""; 0]);
    let vfs = SimVfs::new(0);
    append_records(&vfs, false).unwrap();
    assert!(!sweep(&vfs).is_empty());
}
