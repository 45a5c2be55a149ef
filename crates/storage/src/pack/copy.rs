//! Writes the packed file.
//!
//! Of the time before the pack time, it has the kept records: each with its data instead of a
//! backpointer, and without a previous record. Transactions of which no record is kept disappear,
//! the others are marked as packed. Everything after the pack time is copied: positions change,
//! and backpointers lead to the same records as before.

use std::sync::Arc;

use crate::error::{StorageError, StorageResult};
use crate::file::DataFile;
use crate::format::{
    BACKPOINTER_LEN, DATA_HEADER_LEN, DataHeader, FIRST_TRANSACTION, MAGIC, TransactionHeader,
    TransactionStatus,
};
use crate::index::Index;
use crate::reader::{Reader, TransactionRecord};
use zrs_ids::Tid;

use super::blobs::{Dropped, DroppedBlobs, IsBlob};
use super::lookup::Lookup;
use super::output::Output;
use super::progress::Progress;
use super::walk::{Data, RecordHead, data_of, follow, record_at, records, transaction};

/// A packed file that is being written.
pub(super) struct Copier {
    reader: Reader,
    target: Target,
    /// Where the next transaction to copy begins.
    position: u64,
    /// The last transaction copied.
    last: Tid,
    progress: Arc<Progress>,
}

/// The packed file with its index.
struct Target {
    output: Output,
    lookup: Lookup,
    index: Index,
}

/// A transaction that is being written.
struct Begun {
    position: u64,
    header: TransactionHeader,
}

/// The content of a data record.
enum Content {
    Data(Data),
    /// 0 if the record undoes the object's creation.
    Backpointer(u64),
}

impl Copier {
    /// Creates a file with the magic of `source`.
    pub(super) fn new(
        source: &DataFile,
        mut output: Output,
        progress: &Arc<Progress>,
    ) -> StorageResult<Self> {
        match source.read_array::<{ MAGIC.len() }>(0)? {
            Some(magic) => output.write(&magic)?,
            None => return Err(source.truncated(0)?),
        }
        Ok(Self {
            reader: Reader::new(source.clone()),
            target: Target {
                lookup: Lookup::new(output.file()),
                output,
                index: Index::new(),
            },
            position: FIRST_TRANSACTION,
            last: Tid::ZERO,
            progress: Arc::clone(progress),
        })
    }

    /// Where the packed file ends so far.
    pub(super) fn end(&self) -> u64 {
        self.target.output.position()
    }

    /// Makes the copied bytes durable.
    pub(super) fn sync(&mut self) -> StorageResult<()> {
        self.target.output.sync()
    }

    /// The index of the packed file.
    pub(super) fn into_index(self) -> Index {
        self.target.index
    }

    /// Copies the records at the positions in `kept`, which are before `pack_position`. Returns
    /// what is dropped; blobs are included if `is_blob` is given.
    pub(super) fn copy_kept<E: From<StorageError>>(
        &mut self,
        kept: &[u64],
        pack_position: u64,
        mut is_blob: Option<&mut IsBlob<'_, E>>,
    ) -> Result<Dropped, E> {
        let mut kept = kept.iter().copied().peekable();
        let mut blobs = DroppedBlobs::default();
        while self.position < pack_position {
            if is_blob.is_none() {
                // Skipped transactions need not be read.
                let Some(next) = kept.peek() else { break };
                self.skip_to(*next, pack_position)?;
            }
            let transaction = transaction(&mut self.reader, self.position, Tid::ZERO)?;
            let target = &mut self.target;
            let mut begun = None;
            records(&mut self.reader, &transaction, |reader, record| {
                if kept.next_if_eq(&record.position).is_none() {
                    return match &mut is_blob {
                        Some(is_blob) => blobs.drop_record(reader, &record, *is_blob),
                        None => Ok(()),
                    };
                }
                blobs.keep_record(&record);
                let begun = match &mut begun {
                    Some(begun) => begun,
                    none => {
                        let status = TransactionStatus::Packed;
                        none.insert(target.begin(&transaction, status)?)
                    }
                };
                target.write_packed(reader, &record, begun)?;
                Ok(())
            })?;
            if let Some(begun) = begun {
                target.end(begun)?;
            }
            blobs.end_transaction(transaction.tid);
            self.position = transaction.end();
            self.last = transaction.tid;
            self.progress.done(self.position);
        }
        self.position = pack_position;
        Ok(Dropped {
            blobs: blobs.into_revisions(),
        })
    }

    /// Continues with the transaction of the record at `next`, unless that is near.
    fn skip_to(&mut self, next: u64, limit: u64) -> StorageResult<()> {
        if self.reader.window.get(next, DATA_HEADER_LEN).is_none() {
            let record = record_at(&self.reader, next, limit)?;
            self.position = record.header.tloc.max(self.position);
        }
        Ok(())
    }

    /// Copies all transactions before `end`, where a transaction must end.
    pub(super) fn copy_rest(&mut self, end: u64) -> StorageResult<()> {
        // The window may hold old bytes from after the last call's end.
        self.reader.window.clear();
        let target = &mut self.target;
        let mut positions = Vec::new();
        while self.position < end {
            let transaction = transaction(&mut self.reader, self.position, self.last)?;
            let begun = target.begin(&transaction, transaction.status)?;
            records(&mut self.reader, &transaction, |reader, record| {
                positions.push((record.header.oid, target.output.position()));
                target.write_copied(reader, &record, &begun)
            })?;
            // The previous record of an object belongs to an earlier transaction.
            for (oid, position) in positions.drain(..) {
                target.index.insert(oid, position);
            }
            target.end(begun)?;
            self.position = transaction.end();
            self.last = transaction.tid;
            self.progress.done(self.position);
        }
        Ok(())
    }
}

impl Target {
    /// Writes the part of a transaction before its data records, for now with the length in the
    /// source.
    fn begin(
        &mut self,
        transaction: &TransactionRecord,
        status: TransactionStatus,
    ) -> StorageResult<Begun> {
        let position = self.output.position();
        self.lookup.begin(transaction.tid, position);
        // Each length was read from two bytes.
        let len = |text: &[u8]| u16::try_from(text.len()).unwrap_or(u16::MAX);
        let header = TransactionHeader {
            tid: transaction.tid,
            length: transaction.length,
            status,
            user_len: len(&transaction.user),
            description_len: len(&transaction.description),
            extension_len: len(&transaction.extension),
        };
        self.output.write(&header.to_bytes())?;
        self.output.write(&transaction.user)?;
        self.output.write(&transaction.description)?;
        self.output.write(&transaction.extension)?;
        Ok(Begun { position, header })
    }

    /// Writes the length at the end, and in the header if it differs there.
    fn end(&mut self, begun: Begun) -> StorageResult<()> {
        let length = self.output.position() - begun.position;
        if length != begun.header.length {
            let header = TransactionHeader {
                length,
                ..begun.header
            };
            self.output.patch(&header.to_bytes(), begun.position)?;
            self.lookup.forget();
        }
        self.output.write(&length.to_be_bytes())
    }

    /// Writes a record from before the pack time.
    fn write_packed(
        &mut self,
        reader: &Reader,
        record: &RecordHead,
        begun: &Begun,
    ) -> StorageResult<()> {
        let oid = record.header.oid;
        self.index.insert(oid, self.output.position());
        let content = data_of(reader, *record)?.into();
        self.write(reader, record, 0, begun, content)
    }

    /// Writes a record from after the pack time.
    ///
    /// ZODB fails if a backpointer leads to a record that is not kept: without garbage
    /// collection, or when a transaction is undone while the pack is running. This function
    /// writes the data instead.
    fn write_copied(
        &mut self,
        reader: &Reader,
        record: &RecordHead,
        begun: &Begun,
    ) -> StorageResult<()> {
        let oid = record.header.oid;
        let data = data_of(reader, *record)?;
        let mut content = data.into();
        if let Some(back) = record.back {
            let tid = follow(reader, oid, record.position, back)?.header.tid;
            let (lookup, output) = (&mut self.lookup, &mut self.output);
            if let Some(found) = lookup.find(output, tid, oid, begun.position, reader, data)? {
                content = Content::Backpointer(found);
            }
        }
        let prev = self.index.get(oid).unwrap_or(0);
        self.write(reader, record, prev, begun, content)
    }

    fn write(
        &mut self,
        reader: &Reader,
        record: &RecordHead,
        prev: u64,
        begun: &Begun,
        content: Content,
    ) -> StorageResult<()> {
        let data_len = match content {
            Content::Data(data) => data.len,
            Content::Backpointer(_) => 0,
        };
        let header = DataHeader {
            prev,
            tloc: begun.position,
            data_len,
            ..record.header
        };
        self.output.write(&header.to_bytes())?;
        match content {
            Content::Data(data) => self.output.copy(reader, data),
            Content::Backpointer(back) => {
                let bytes: [u8; BACKPOINTER_LEN] = back.to_be_bytes();
                self.output.write(&bytes)
            }
        }
    }
}

impl From<Option<Data>> for Content {
    fn from(data: Option<Data>) -> Self {
        data.map_or(Self::Backpointer(0), Self::Data)
    }
}
