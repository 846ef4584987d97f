//! The PCM pool: fixed-size blocks allocated at start, borrowed by calls' queues.
//!
//! A queue is a chain of blocks. It is opened with a number of blocks that are guaranteed to it and a
//! cap up to which it may borrow more from what nobody else was promised; so one call with a long
//! backlog never takes the blocks another call counts on. Nothing here allocates after the start.
//!
//! A [`PcmQueue`] holds indices into the pool it was opened from. Its owner gives it back with
//! [`PcmQueue::close`]; one that is just dropped keeps its blocks and its promise for ever.
//!
//! Invariants: `promised <= free`; free blocks and all queues' blocks are all blocks; every block of a
//! queue but the last holds at least one byte.

/// Bytes of a block: 20 ms of PCM16 at 24 kHz mono. Divisible by three, so that base64 fills it.
pub const BLOCK_BYTES: usize = 960;

/// The end of a chain of blocks.
const NONE: u32 = u32::MAX;

/// What the pool knows about a block besides its bytes.
#[derive(Debug, Clone, Copy)]
struct Block {
    /// The next block of the free list or of a queue, or [`NONE`].
    next: u32,
    /// Bytes written, from the block's start.
    len: u16,
}

/// All PCM memory of the daemon.
#[derive(Debug)]
pub struct PcmPool {
    bytes: Box<[u8]>,
    blocks: Box<[Block]>,
    first_free: u32,
    free: usize,
    /// Blocks guaranteed to queues that do not use them yet.
    promised: usize,
}

impl PcmPool {
    /// A pool of `total_blocks` blocks; the only allocation of PCM memory.
    #[must_use]
    pub fn new(total_blocks: usize) -> Self {
        // Indices are 32 bits wide: four billion blocks are four terabytes.
        let total = u32::try_from(total_blocks).unwrap_or(NONE - 1).min(NONE - 1);
        let link =
            |index: u32| Block { next: if index + 1 < total { index + 1 } else { NONE }, len: 0 };
        Self {
            bytes: vec![0; total as usize * BLOCK_BYTES].into_boxed_slice(),
            blocks: (0..total).map(link).collect(),
            first_free: if total == 0 { NONE } else { 0 },
            free: total as usize,
            promised: 0,
        }
    }

    /// All blocks.
    #[must_use]
    pub fn total_blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Blocks in no queue, promised or not.
    #[must_use]
    pub fn free_blocks(&self) -> usize {
        self.free
    }

    /// Blocks in no queue and promised to none.
    #[must_use]
    pub fn spare_blocks(&self) -> usize {
        self.free - self.promised
    }

    /// Opens a queue to which `guaranteed` blocks always belong and which may hold up to `cap`
    /// blocks (at least the guaranteed ones). `None` if that cannot be promised.
    #[must_use]
    pub fn open(&mut self, guaranteed: usize, cap: usize) -> Option<PcmQueue> {
        if guaranteed > self.spare_blocks() {
            return None;
        }
        self.promised += guaranteed;
        Some(PcmQueue { guaranteed, cap: cap.max(guaranteed), ..PcmQueue::none() })
    }

    fn take_block(&mut self) -> u32 {
        let index = self.first_free;
        let block = &mut self.blocks[index as usize];
        self.first_free = block.next;
        *block = Block { next: NONE, len: 0 };
        self.free -= 1;
        index
    }

    fn give_block(&mut self, index: u32) {
        self.blocks[index as usize] = Block { next: self.first_free, len: 0 };
        self.first_free = index;
        self.free += 1;
    }

    fn len(&self, index: u32) -> usize {
        usize::from(self.blocks[index as usize].len)
    }

    /// The bytes of a block between two offsets.
    fn slice(&mut self, index: u32, from: usize, to: usize) -> &mut [u8] {
        let start = index as usize * BLOCK_BYTES;
        &mut self.bytes[start + from..start + to]
    }

    fn grow(&mut self, index: u32, bytes: usize) {
        let len = self.len(index) + bytes;
        assert!(len <= BLOCK_BYTES, "more committed than was writable");
        // A block's length is at most 960.
        self.blocks[index as usize].len = u16::try_from(len).unwrap_or(u16::MAX);
    }
}

/// Bytes of PCM in order, in blocks of a [`PcmPool`]. See the module's text.
#[derive(Debug)]
pub struct PcmQueue {
    head: u32,
    tail: u32,
    /// Bytes of the head block already consumed.
    read: usize,
    len: usize,
    used: usize,
    guaranteed: usize,
    cap: usize,
}

impl PcmQueue {
    /// A queue that holds nothing, ever.
    #[must_use]
    pub fn none() -> Self {
        Self { head: NONE, tail: NONE, read: 0, len: 0, used: 0, guaranteed: 0, cap: 0 }
    }

    /// Bytes waiting.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Blocks held.
    #[must_use]
    pub fn used_blocks(&self) -> usize {
        self.used
    }

    /// Bytes that [`PcmQueue::push`] would accept now.
    #[must_use]
    pub fn space(&self, pool: &PcmPool) -> usize {
        self.tail_room(pool) + self.growth(pool) * BLOCK_BYTES
    }

    /// Appends as much of `bytes` as there is room for, and says how much that was.
    pub fn push(&mut self, pool: &mut PcmPool, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        while !rest.is_empty() {
            let Some(room) = self.writable(pool, 1) else {
                break;
            };
            let part = room.len().min(rest.len());
            room[..part].copy_from_slice(&rest[..part]);
            self.commit(pool, part);
            rest = &rest[part..];
        }
        bytes.len() - rest.len()
    }

    /// Appends all of `bytes`, which is live audio: where there is no room, whole oldest blocks are
    /// dropped (or the input's own start, if it is longer than the queue can be). Returns the bytes
    /// dropped.
    pub fn push_dropping_oldest(&mut self, pool: &mut PcmPool, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        let mut dropped = 0;
        loop {
            rest = &rest[self.push(pool, rest)..];
            if rest.is_empty() {
                return dropped;
            }
            match self.drop_head(pool) {
                Some(bytes) => dropped += bytes,
                None => return dropped + rest.len(),
            }
        }
    }

    /// Appends a frame to what is kept of the past: the newest `keep` bytes, and up to a block more. Older
    /// ones are forgotten, and so is what the pool has no room for. Returns the bytes that were
    /// forgotten.
    ///
    /// Frames are mostly a block long. Then the oldest block becomes the newest one: this costs a copy
    /// and four assignments.
    pub fn push_recent(&mut self, pool: &mut PcmPool, bytes: &[u8], keep: usize) -> usize {
        let whole = |index: u32, pool: &PcmPool| pool.len(index) == BLOCK_BYTES;
        if bytes.len() == BLOCK_BYTES
            && self.len >= keep.max(2 * BLOCK_BYTES)
            && self.len < keep + BLOCK_BYTES
            && self.read == 0
            && whole(self.head, pool)
            && whole(self.tail, pool)
        {
            let index = self.head;
            self.head = pool.blocks[index as usize].next;
            pool.blocks[self.tail as usize].next = index;
            pool.blocks[index as usize].next = NONE;
            self.tail = index;
            pool.slice(index, 0, BLOCK_BYTES).copy_from_slice(bytes);
            return BLOCK_BYTES;
        }
        let dropped = self.push_dropping_oldest(pool, bytes);
        let over = self.len.saturating_sub(keep);
        self.consume(pool, over);
        dropped + over
    }

    /// Room of at least `min` bytes (at most [`BLOCK_BYTES`]) to write into, to be followed by
    /// [`PcmQueue::commit`]. Leaves a shorter rest of the last block unused and takes a fresh one.
    /// `None` if there is no block to be had.
    fn writable<'p>(&mut self, pool: &'p mut PcmPool, min: usize) -> Option<&'p mut [u8]> {
        debug_assert!((1..=BLOCK_BYTES).contains(&min), "a block cannot give that");
        if self.tail_room(pool) < min {
            if self.growth(pool) == 0 {
                return None;
            }
            self.add_block(pool);
        }
        let from = pool.len(self.tail);
        Some(pool.slice(self.tail, from, BLOCK_BYTES))
    }

    /// Takes the first `bytes` of what [`PcmQueue::writable`] gave as written.
    ///
    /// # Panics
    /// If that is more than was writable.
    fn commit(&mut self, pool: &mut PcmPool, bytes: usize) {
        if bytes > 0 {
            pool.grow(self.tail, bytes);
            self.len += bytes;
        }
    }

    /// The oldest bytes, as far as they lie together: at most a block. Empty if nothing waits.
    #[must_use]
    pub fn front<'p>(&self, pool: &'p PcmPool) -> &'p [u8] {
        if self.head == NONE {
            return &[];
        }
        let start = self.head as usize * BLOCK_BYTES;
        &pool.bytes[start + self.read..start + pool.len(self.head)]
    }

    /// Removes the oldest `bytes` (all, if fewer wait).
    pub fn consume(&mut self, pool: &mut PcmPool, bytes: usize) {
        let mut left = bytes;
        while left > 0 && self.len > 0 {
            let part = left.min(pool.len(self.head) - self.read);
            self.read += part;
            self.len -= part;
            left -= part;
            if self.read == pool.len(self.head) {
                self.remove_head(pool);
            }
        }
    }

    /// Throws away all that waits. The guarantee stays.
    pub fn clear(&mut self, pool: &mut PcmPool) {
        while self.head != NONE {
            self.remove_head(pool);
        }
        self.len = 0;
    }

    /// Changes how many blocks the queue may hold. What it holds beyond that stays until it is
    /// consumed.
    pub fn set_cap(&mut self, cap: usize) {
        self.cap = cap.max(self.guaranteed);
    }

    /// Puts all that `other` holds in front of what waits here, without a copy: the chains are joined.
    /// `other` is empty afterwards. The queue may then hold more than its cap.
    ///
    /// `other` must have no guarantee. The blocks that it gives away would have to be promised to it
    /// once more, and there may be none left to promise.
    pub fn prepend(&mut self, pool: &mut PcmPool, other: &mut Self) {
        debug_assert_eq!(
            other.guaranteed, 0,
            "a queue with a guarantee cannot give its blocks away"
        );
        if other.head == NONE {
            return;
        }
        self.drop_consumed(pool);
        pool.blocks[other.tail as usize].next = self.head;
        if self.head == NONE {
            self.tail = other.tail;
        }
        (self.head, self.read) = (other.head, other.read);
        self.len += other.len;
        pool.promised -= self.unused();
        self.used += std::mem::take(&mut other.used);
        pool.promised += self.unused();
        (other.head, other.tail, other.read, other.len) = (NONE, NONE, 0, 0);
    }

    /// Moves what is left of a partly consumed first block to its start. Only the first block of a
    /// queue may be partly consumed.
    fn drop_consumed(&mut self, pool: &mut PcmPool) {
        if self.head == NONE || self.read == 0 {
            return;
        }
        let (start, len) = (self.head as usize * BLOCK_BYTES, pool.len(self.head));
        pool.bytes.copy_within(start + self.read..start + len, start);
        let left = u16::try_from(len - self.read).unwrap_or_default();
        pool.blocks[self.head as usize].len = left;
        self.read = 0;
    }

    /// Guaranteed blocks that the queue does not hold.
    fn unused(&self) -> usize {
        self.guaranteed.saturating_sub(self.used)
    }

    /// Gives blocks and guarantee back.
    pub fn close(mut self, pool: &mut PcmPool) {
        self.clear(pool);
        pool.promised -= self.guaranteed;
    }

    /// Room left in the last block.
    fn tail_room(&self, pool: &PcmPool) -> usize {
        if self.tail == NONE { 0 } else { BLOCK_BYTES - pool.len(self.tail) }
    }

    /// Blocks this queue may take now: what is left of its guarantee, and what nobody was promised.
    fn growth(&self, pool: &PcmPool) -> usize {
        let borrowed = self.cap.saturating_sub(self.used.max(self.guaranteed));
        self.unused() + borrowed.min(pool.spare_blocks())
    }

    fn add_block(&mut self, pool: &mut PcmPool) {
        if self.used < self.guaranteed {
            pool.promised -= 1;
        }
        self.used += 1;
        let index = pool.take_block();
        if self.tail == NONE {
            self.head = index;
            self.read = 0;
        } else {
            pool.blocks[self.tail as usize].next = index;
        }
        self.tail = index;
    }

    fn remove_head(&mut self, pool: &mut PcmPool) {
        let index = self.head;
        self.head = pool.blocks[index as usize].next;
        self.read = 0;
        if self.head == NONE {
            self.tail = NONE;
        }
        pool.give_block(index);
        self.used -= 1;
        if self.used < self.guaranteed {
            pool.promised += 1;
        }
    }

    /// Drops the oldest block and says how many waiting bytes were in it.
    fn drop_head(&mut self, pool: &mut PcmPool) -> Option<usize> {
        if self.head == NONE {
            return None;
        }
        let bytes = pool.len(self.head) - self.read;
        self.len -= bytes;
        self.remove_head(pool);
        Some(bytes)
    }
}

#[cfg(test)]
mod tests;
