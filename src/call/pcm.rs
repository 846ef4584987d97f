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
        Some(PcmQueue {
            head: NONE,
            tail: NONE,
            read: 0,
            len: 0,
            used: 0,
            guaranteed,
            cap: cap.max(guaranteed),
        })
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
mod tests {
    use std::collections::VecDeque;

    use super::*;

    fn bytes(from: usize, count: usize) -> Vec<u8> {
        (from..from + count).map(|value| u8::try_from(value % 251).unwrap()).collect()
    }

    fn take_all(queue: &mut PcmQueue, pool: &mut PcmPool) -> Vec<u8> {
        let mut all = Vec::new();
        while !queue.is_empty() {
            let part = queue.front(pool).to_vec();
            assert!(!part.is_empty());
            queue.consume(pool, part.len());
            all.extend(part);
        }
        all
    }

    #[test]
    fn bytes_come_out_as_they_went_in() {
        let mut pool = PcmPool::new(4);
        let mut queue = pool.open(1, 4).unwrap();
        let input = bytes(0, 2_500);
        for part in input.chunks(700) {
            assert_eq!(queue.push(&mut pool, part), part.len());
        }
        assert_eq!(queue.len_bytes(), 2_500);
        assert_eq!(queue.used_blocks(), 3);
        assert_eq!(take_all(&mut queue, &mut pool), input);
        assert_eq!(pool.free_blocks(), 4);
        queue.close(&mut pool);
        assert_eq!(pool.spare_blocks(), 4);
    }

    #[test]
    fn a_full_queue_accepts_what_fits_exactly() {
        let mut pool = PcmPool::new(10);
        let mut queue = pool.open(1, 2).unwrap();
        assert_eq!(queue.space(&pool), 2 * BLOCK_BYTES);
        assert_eq!(queue.push(&mut pool, &bytes(0, 3_000)), 2 * BLOCK_BYTES);
        assert_eq!(queue.space(&pool), 0);
        assert_eq!(queue.push(&mut pool, &[1, 2]), 0);
        queue.consume(&mut pool, BLOCK_BYTES);
        assert_eq!(queue.space(&pool), BLOCK_BYTES);
    }

    #[test]
    fn borrowing_never_touches_what_another_queue_was_promised() {
        let mut pool = PcmPool::new(6);
        let mut greedy = pool.open(1, 100).unwrap();
        let mut modest = pool.open(2, 2).unwrap();
        assert!(pool.open(4, 4).is_none());
        assert_eq!(greedy.push(&mut pool, &bytes(0, 10_000)), 4 * BLOCK_BYTES);
        assert_eq!(modest.push(&mut pool, &bytes(0, 10_000)), 2 * BLOCK_BYTES);
        greedy.consume(&mut pool, 3 * BLOCK_BYTES);
        assert!(pool.open(4, 4).is_none(), "greedy keeps one, modest two");
        let third = pool.open(3, 3).unwrap();
        assert_eq!(greedy.space(&pool), 0, "its only block is full, the rest is promised");
        greedy.clear(&mut pool);
        assert_eq!(greedy.space(&pool), BLOCK_BYTES);
        greedy.close(&mut pool);
        modest.close(&mut pool);
        third.close(&mut pool);
        assert_eq!((pool.free_blocks(), pool.spare_blocks()), (6, 6));
    }

    #[test]
    fn live_audio_drops_whole_oldest_blocks() {
        let mut pool = PcmPool::new(3);
        let mut queue = pool.open(3, 3).unwrap();
        let input = bytes(0, 5 * BLOCK_BYTES);
        assert_eq!(queue.push_dropping_oldest(&mut pool, &input[..2 * BLOCK_BYTES + 100]), 0);
        let dropped = queue.push_dropping_oldest(&mut pool, &input[2 * BLOCK_BYTES + 100..]);
        assert_eq!(dropped, 2 * BLOCK_BYTES);
        assert_eq!(take_all(&mut queue, &mut pool), input[2 * BLOCK_BYTES..]);
        let mut none = pool.open(0, 0).unwrap();
        assert_eq!(none.push_dropping_oldest(&mut pool, &input[..10]), 10);
    }

    #[test]
    fn audio_can_be_written_in_place() {
        let mut pool = PcmPool::new(3);
        let mut queue = pool.open(3, 3).unwrap();
        queue.push(&mut pool, &bytes(0, 958));
        let room = queue.writable(&mut pool, 3).unwrap();
        assert_eq!(room.len(), BLOCK_BYTES, "two bytes are too few: a fresh block");
        room[..3].copy_from_slice(&[7, 8, 9]);
        queue.commit(&mut pool, 3);
        assert_eq!(queue.writable(&mut pool, 3).unwrap().len(), 957);
        queue.commit(&mut pool, 0);
        let mut expected = bytes(0, 958);
        expected.extend([7, 8, 9]);
        assert_eq!(take_all(&mut queue, &mut pool), expected);
        assert!(queue.writable(&mut pool, 3).is_some());
        queue.commit(&mut pool, 0);
        assert!(queue.front(&pool).is_empty() && queue.used_blocks() == 1);
        queue.close(&mut pool);
        assert_eq!(pool.spare_blocks(), 3);
    }

    #[test]
    fn a_queue_takes_anothers_blocks_in_front_of_its_own() {
        let mut pool = PcmPool::new(8);
        let mut queue = pool.open(2, 4).unwrap();
        let mut older = pool.open(0, 4).unwrap();
        let input = bytes(0, 4_000);
        older.push(&mut pool, &input[..2_500]);
        older.consume(&mut pool, 100);
        queue.push(&mut pool, &bytes(7, 400));
        queue.consume(&mut pool, 400 - 50);
        queue.clear(&mut pool);
        queue.push(&mut pool, &[vec![0; 10], input[2_500..].to_vec()].concat());
        queue.consume(&mut pool, 10);
        queue.prepend(&mut pool, &mut older);
        assert!(older.is_empty());
        assert_eq!((queue.len_bytes(), queue.used_blocks()), (3_900, 5));
        assert_eq!(pool.spare_blocks(), 3, "no guarantee is left unused");
        assert_eq!(queue.space(&pool), 2 * BLOCK_BYTES - 1_510, "it holds more than its cap");
        assert_eq!(take_all(&mut queue, &mut pool), input[100..]);
        assert_eq!(pool.spare_blocks(), 6);
        queue.prepend(&mut pool, &mut older);
        older.push(&mut pool, &input[..10]);
        queue.prepend(&mut pool, &mut older);
        queue.set_cap(3);
        assert_eq!(queue.push(&mut pool, &bytes(0, 9_000)), 3 * BLOCK_BYTES - 10);
        queue.close(&mut pool);
        older.close(&mut pool);
        assert_eq!((pool.free_blocks(), pool.spare_blocks()), (8, 8));
    }

    #[test]
    fn an_empty_pool_gives_nothing() {
        let mut pool = PcmPool::new(0);
        assert!(pool.open(1, 1).is_none());
        let mut queue = pool.open(0, 5).unwrap();
        assert_eq!(queue.push(&mut pool, &[0, 0]), 0);
        assert!(queue.writable(&mut pool, 2).is_none());
        queue.close(&mut pool);
    }

    /// A small generator (xorshift), so that a failing seed can be run again.
    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 >> 33).unwrap() % limit
        }
    }

    /// One queue beside what it ought to hold.
    struct Pair {
        queue: PcmQueue,
        model: VecDeque<u8>,
    }

    impl Pair {
        fn step(&mut self, pool: &mut PcmPool, random: &mut Random) {
            let input = bytes(random.below(251), random.below(2_000) * 2);
            match random.below(7) {
                0 | 1 => {
                    let space = self.queue.space(pool);
                    let accepted = self.queue.push(pool, &input);
                    assert_eq!(accepted, space.min(input.len()));
                    self.model.extend(&input[..accepted]);
                }
                2 => {
                    let dropped = self.queue.push_dropping_oldest(pool, &input);
                    self.model.extend(&input);
                    self.model.drain(..dropped);
                }
                3 => {
                    let min = 1 + random.below(BLOCK_BYTES);
                    let Some(room) = self.queue.writable(pool, min) else {
                        return;
                    };
                    assert!(room.len() >= min);
                    let part = random.below(room.len() + 1);
                    room[..part].fill(0xAB);
                    self.queue.commit(pool, part);
                    self.model.extend(std::iter::repeat_n(0xAB, part));
                }
                4 | 5 => {
                    let count = random.below(3_000).min(self.model.len());
                    self.queue.consume(pool, count);
                    self.model.drain(..count);
                }
                _ if random.below(10) == 0 => {
                    self.queue.clear(pool);
                    self.model.clear();
                }
                _ => {}
            }
        }

        fn check(&self, pool: &PcmPool) {
            assert_eq!(self.queue.len_bytes(), self.model.len());
            let front = self.queue.front(pool);
            assert!(self.model.iter().zip(front).all(|(expected, byte)| expected == byte));
            assert_eq!(front.is_empty(), self.model.is_empty());
        }
    }

    #[test]
    fn random_use_matches_a_plain_queue_and_conserves_blocks() {
        for seed in 1..=10_u64 {
            let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            let mut pool = PcmPool::new(12);
            let mut pairs: Vec<Pair> = Vec::new();
            for step in 0..1_000 {
                if pairs.len() < 4 && random.below(20) == 0 {
                    let opened = pool.open(random.below(4), random.below(12));
                    pairs.extend(opened.map(|queue| Pair { queue, model: VecDeque::new() }));
                } else if !pairs.is_empty() {
                    let index = random.below(pairs.len());
                    if random.below(100) == 0 {
                        pairs.swap_remove(index).queue.close(&mut pool);
                    } else {
                        pairs[index].step(&mut pool, &mut random);
                    }
                }
                let used: usize = pairs.iter().map(|pair| pair.queue.used_blocks()).sum();
                assert_eq!(used + pool.free_blocks(), 12, "seed {seed}, step {step}");
                assert!(pool.promised <= pool.free, "seed {seed}, step {step}");
                pairs.iter().for_each(|pair| pair.check(&pool));
            }
            for mut pair in pairs {
                let rest = take_all(&mut pair.queue, &mut pool);
                assert_eq!(rest, Vec::from(pair.model), "seed {seed}");
                pair.queue.close(&mut pool);
            }
            assert_eq!(pool.spare_blocks(), 12, "seed {seed}");
        }
    }
}
