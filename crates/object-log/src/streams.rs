//! Reading streams, which are stored in adjacent blocks.

use super::error::{Damage, LogError, LogResult};
use super::log::Log;
use super::payloads::{BLOCK_LEN, StreamExtent};
use super::record::{HEAD_LEN, Kind};
use zrs_ids::Oid;
use zrs_vfs::VfsFile;

const STRIDE: u64 = (HEAD_LEN + BLOCK_LEN) as u64;

impl Log {
    /// The length of a stream.
    pub fn stream_len(&self, oid: Oid) -> LogResult<u64> {
        let (_, extent, _) = self.stream(oid)?;
        Ok(extent.len)
    }

    /// The bytes of a stream from `offset` to the end of its block; none at the end of the
    /// stream.
    pub fn stream_bytes(&self, oid: Oid, offset: u64) -> LogResult<Vec<u8>> {
        let (file, extent, serial) = self.stream(oid)?;
        self.block(&*file, oid, extent, offset, serial)
    }

    pub(super) fn block(
        &self,
        file: &dyn VfsFile,
        oid: Oid,
        extent: StreamExtent,
        offset: u64,
        serial: u64,
    ) -> LogResult<Vec<u8>> {
        if offset >= extent.len {
            return Ok(Vec::new());
        }
        let number = offset / BLOCK_LEN as u64;
        let position = extent.first.saturating_add(number.saturating_mul(STRIDE));
        let (head, mut payload) = self.record(file, position, Some(serial))?;
        let whole = BLOCK_LEN as u64;
        let expected = (extent.len - number * whole).min(whole);
        if head.kind != Kind::Block || head.oid != oid || u64::from(head.len) != expected {
            return Err(self.corrupt(position, Some(serial), Damage::Unexpected));
        }
        let skipped = usize::try_from(offset % whole).unwrap_or(BLOCK_LEN);
        payload.drain(..skipped.min(payload.len()));
        Ok(payload)
    }

    fn stream(&self, oid: Oid) -> LogResult<(std::sync::Arc<dyn VfsFile>, StreamExtent, u64)> {
        let (file, entry) = {
            let view = self.view()?;
            let entry = view.index.streams.get(&oid);
            // A stream whose record is damaged counts as an object.
            let entry = entry.or_else(|| view.index.objects.get(&oid));
            let entry = entry.ok_or(LogError::NoSuchObject(oid))?;
            (std::sync::Arc::clone(&view.file), *entry)
        };
        let extent = self.extent(&*file, oid, entry.position, entry.serial)?;
        Ok((file, extent, entry.serial))
    }

    pub(super) fn extent(
        &self,
        file: &dyn VfsFile,
        oid: Oid,
        position: u64,
        serial: u64,
    ) -> LogResult<StreamExtent> {
        let (head, payload) = self.record(file, position, Some(serial))?;
        let extent = StreamExtent::parse(&payload);
        let extent = extent.filter(|_| head.kind == Kind::Stream && head.oid == oid);
        extent.ok_or_else(|| self.corrupt(position, Some(serial), Damage::Unexpected))
    }
}
