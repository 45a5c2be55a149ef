//! Crash images as files, for ZODB to open.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use zrs_vfs::sim::Image;

use super::full;
use super::power::{ORDERED, images, record};
use super::recorder::{BLOBS, PATH, State};
use super::recovery::{VOTES, voted_at};
use super::workloads::WORKLOADS;

/// Writes a sample of the images into the directory that `ZRS_CRASH_IMAGES` names, each into a
/// directory of its own with the allowed states in `allowed.json`: for each state the tid, and
/// the data of objects in hexadecimal digits.
#[test]
#[ignore = "writes files for tests/python/killing/test_crash_images.py, which runs it"]
fn export_images() {
    let directory = PathBuf::from(std::env::var_os("ZRS_CRASH_IMAGES").unwrap());
    let step = if full() { 3 } else { 23 };
    let torn = [480, 496, 504]
        .into_iter()
        .flat_map(|place| VOTES.map(|vote| voted_at(place, vote)));
    let recorders = WORKLOADS
        .iter()
        .map(|workload| record(workload, ORDERED))
        .chain(torn);
    let mut number = 0;
    for recorder in recorders {
        for (image, allowed) in images(&recorder, 12).step_by(step) {
            if image.content(PATH).is_some() {
                export(&image, allowed, &directory.join(number.to_string()));
                number += 1;
            }
        }
    }
}

fn export(image: &Image, allowed: &[State], directory: &Path) {
    fs::create_dir(directory).unwrap();
    let above = Path::new(PATH).parent().unwrap();
    for (path, content) in image.files() {
        let path = directory.join(path.strip_prefix(above).unwrap());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let states: Vec<_> = allowed.iter().map(json).collect();
    let label = image.label();
    let text = serde_json::json!({ "label": label, "states": states }).to_string();
    fs::write(directory.join("allowed.json"), text).unwrap();
}

fn json(state: &State) -> serde_json::Value {
    let objects = state.objects.iter().map(|(oid, data)| {
        let data = data.as_ref().map(|data| hex(data));
        (hex(oid.as_bytes()), serde_json::json!(data))
    });
    let objects: serde_json::Map<_, _> = objects.collect();
    let blobs = state.blobs.iter().map(|(path, content)| {
        let path = path.strip_prefix(BLOBS).unwrap().to_str().unwrap();
        (path.to_owned(), serde_json::json!(hex(content)))
    });
    let blobs: serde_json::Map<_, _> = blobs.collect();
    serde_json::json!({ "tid": hex(state.tid.as_bytes()), "objects": objects, "blobs": blobs })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
