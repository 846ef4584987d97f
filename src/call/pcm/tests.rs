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
fn what_is_kept_of_the_past_is_the_newest() {
    let mut pool = PcmPool::new(8);
    let mut queue = pool.open(0, 5).unwrap();
    let keep = 3 * BLOCK_BYTES;
    let all = bytes(0, 20 * BLOCK_BYTES);
    for (at, frame) in all.chunks(BLOCK_BYTES).enumerate() {
        let forgotten = queue.push_recent(&mut pool, frame, keep);
        assert_eq!(forgotten, if at < 3 { 0 } else { BLOCK_BYTES }, "frame {at}");
    }
    assert_eq!(queue.used_blocks(), 3);
    assert_eq!(queue.push_recent(&mut pool, &[1, 2], keep), 2, "frames of another length");
    let kept = take_all(&mut queue, &mut pool);
    assert_eq!(kept[..keep - 2], all[17 * BLOCK_BYTES + 2..]);
    assert_eq!(kept[keep - 2..], [1, 2]);
    queue.close(&mut pool);
    assert_eq!(pool.spare_blocks(), 8);
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
        match random.below(8) {
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
            7 => {
                let keep = random.below(4 * BLOCK_BYTES);
                let short = random.below(2_000);
                let input =
                    if random.below(3) > 0 { &input[..] } else { &input[..short.min(input.len())] };
                let whole = bytes(random.below(251), BLOCK_BYTES);
                let input = if random.below(4) > 0 { &whole[..] } else { input };
                let forgotten = self.queue.push_recent(pool, input, keep);
                self.model.extend(input);
                self.model.drain(..forgotten);
                assert!(self.model.len() <= keep + BLOCK_BYTES);
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
