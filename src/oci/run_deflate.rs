//! A deflate stream that shortens runs of one byte, and does nothing else (RFC 1951).
//!
//! What it is for: tar headers and padding, which are zeros for the most part, in a layer whose files come compressed already (`packed.rs`). A real
//! compressor would save a little more, and would bind every digest to its version; this one is forty lines that never change. One final block of the
//! fixed codes of section 3.2.6; a run is its first byte and matches at distance 1.
//!
//! What must stay true: the same bytes give the same stream for ever; the bytes of layers hang on it.

/// The shortest and the longest match that deflate has.
const MATCH_MIN: usize = 3;
const MATCH_MAX: usize = 258;

/// Of each length code from 257 on: the least length and the number of extra bits (section 3.2.5).
const LENGTHS: [(usize, u32); 29] = [
    (3, 0),
    (4, 0),
    (5, 0),
    (6, 0),
    (7, 0),
    (8, 0),
    (9, 0),
    (10, 0),
    (11, 1),
    (13, 1),
    (15, 1),
    (17, 1),
    (19, 2),
    (23, 2),
    (27, 2),
    (31, 2),
    (35, 3),
    (43, 3),
    (51, 3),
    (59, 3),
    (67, 4),
    (83, 4),
    (99, 4),
    (115, 4),
    (131, 5),
    (163, 5),
    (195, 5),
    (227, 5),
    (258, 0),
];

/// The stream of `bytes`.
pub fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut bits = Bits::default();
    // The final block; fixed codes.
    bits.push(1, 1);
    bits.push(1, 2);
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        let run = bytes[at..].iter().take_while(|other| **other == byte).count();
        bits.symbol(usize::from(byte));
        let mut left = run - 1;
        while left >= MATCH_MIN {
            let length = left.min(MATCH_MAX);
            bits.run(length);
            left -= length;
        }
        (0..left).for_each(|_| bits.symbol(usize::from(byte)));
        at += run;
    }
    bits.symbol(256);
    bits.finish()
}

/// Bits into bytes, the lowest first.
#[derive(Default)]
struct Bits {
    out: Vec<u8>,
    pending: u64,
    count: u32,
}

impl Bits {
    /// The low `count` bits of `value`, at most 32.
    fn push(&mut self, value: u32, count: u32) {
        self.pending |= u64::from(value) << self.count;
        self.count += count;
        while self.count >= 8 {
            self.out.push(self.pending as u8);
            self.pending >>= 8;
            self.count -= 8;
        }
    }

    /// A literal or a length code. Huffman codes stand with their highest bit first (section 3.1.1).
    fn symbol(&mut self, symbol: usize) {
        let (code, count) = match symbol as u32 {
            low @ 0..=143 => (0b0011_0000 + low, 8),
            high @ 144..=255 => (0b1_1001_0000 + high - 144, 9),
            length @ 256..=279 => (length - 256, 7),
            length => (0b1100_0000 + length - 280, 8),
        };
        self.push(code.reverse_bits() >> (32 - count), count);
    }

    /// The byte before, `length` times more.
    fn run(&mut self, length: usize) {
        let at = LENGTHS.partition_point(|(least, _)| *least <= length) - 1;
        let (least, extra) = LENGTHS[at];
        self.symbol(257 + at);
        self.push((length - least) as u32, extra);
        // Distance 1 is code 0, five bits.
        self.push(0, 5);
    }

    fn finish(mut self) -> Vec<u8> {
        if self.count > 0 {
            self.out.push(self.pending as u8);
        }
        self.out
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn inflated(stream: &[u8]) -> Vec<u8> {
        let (mut out, mut decoder) = (Vec::new(), flate2::read::DeflateDecoder::new(stream));
        decoder.read_to_end(&mut out).unwrap();
        assert_eq!(decoder.total_in(), stream.len() as u64, "all of the stream is the stream");
        out
    }

    #[test]
    fn whatever_goes_in_comes_out() {
        for length in 0..1200 {
            let zeros = vec![0u8; length];
            assert_eq!(inflated(&deflate(&zeros)), zeros, "{length} zeros");
        }
        let mixed: Vec<u8> = (0..70_000u32).map(|at| (at.wrapping_mul(at) >> 11) as u8).collect();
        assert_eq!(inflated(&deflate(&mixed)), mixed);
        let every: Vec<u8> = (0..=255).flat_map(|byte| vec![byte; usize::from(byte)]).collect();
        assert_eq!(inflated(&deflate(&every)), every);
    }

    #[test]
    fn the_stream_is_what_it_has_always_been_and_short() {
        assert_eq!(deflate(b""), [3, 0]);
        assert_eq!(deflate(b"model"), [0xcb, 0xcd, 0x4f, 0x49, 0xcd, 1, 0]);
        assert!(deflate(&[0; 1024]).len() < 16);
    }
}
