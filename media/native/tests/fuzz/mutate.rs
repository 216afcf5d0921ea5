//! Mutations by a seed: of bytes with length fields and numbers in mind, and of lines of text.

/// A small generator (xorshift*): the same numbers on every machine.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Random((mixed ^ (mixed >> 31)) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// From 0 up to, without, `end`; 0 when that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() >> 16) as usize % end.max(1)
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    pub fn fill(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// Numbers at the edges of what fields can hold.
const EDGES: [u64; 18] = [
    0,
    1,
    2,
    3,
    7,
    8,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0x8000,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fffe,
    0xffff_ffff,
];
/// Longest input: what a datagram can be and a bit.
const BYTES_MAX: usize = 2_100;

/// A few mutations of `seed`; pieces of `others` are spliced in.
pub fn mutate(random: &mut Random, seed: &[u8], others: &[Vec<u8>]) -> Vec<u8> {
    let mut b = seed.to_vec();
    for _ in 0..=random.below(4) {
        one(random, &mut b, others);
    }
    b.truncate(BYTES_MAX);
    b
}

fn one(random: &mut Random, b: &mut Vec<u8>, others: &[Vec<u8>]) {
    let len = b.len();
    let at = random.below(len);
    match random.below(10) {
        0 if len > 0 => b[at] ^= 1 << random.below(8),
        1 if len > 0 => b[at] = random.next() as u8,
        2 => edge_number(random, b, at),
        3 => b.truncate(at),
        4 => {
            let n = 1 + random.below(40);
            b.extend(random.fill(n));
        }
        5 => length_field(random, b),
        6 if len > 0 => {
            // once more, a few times: attributes, blocks, records that repeat
            let piece = b[at..(at + 1 + random.below(64)).min(len)].to_vec();
            for _ in 0..=random.below(8) {
                b.splice(at..at, piece.iter().copied());
            }
        }
        7 if len > 0 => {
            let end = (at + 1 + random.below(16)).min(len);
            b.drain(at..end);
        }
        8 if !others.is_empty() => {
            let other = random.pick(others);
            let from = random.below(other.len());
            b.truncate(at);
            b.extend_from_slice(&other[from..]);
        }
        _ if len > 0 => {
            let end = (at + 1 + random.below(32)).min(len);
            let byte = *random.pick(&[0, 0xff, 0x80]);
            b[at..end].fill(byte);
        }
        _ => b.push(random.next() as u8),
    }
}

/// A 16-, 24- or 32-bit number at an edge.
fn edge_number(random: &mut Random, b: &mut [u8], at: usize) {
    let value = random.pick(&EDGES).to_be_bytes();
    let size = 1 + random.below(4);
    for (place, byte) in b.iter_mut().skip(at).take(size).zip(&value[8 - size..]) {
        *place = *byte;
    }
}

/// What looks like the length of the rest becomes a little longer, shorter, or much too long.
fn length_field(random: &mut Random, b: &mut [u8]) {
    let looks = |at: usize| {
        let value = usize::from(u16::from_be_bytes([b[at], b[at + 1]]));
        value > 0 && (value <= b.len() - at || value * 4 <= b.len())
    };
    let places: Vec<usize> = (0..b.len().saturating_sub(1))
        .filter(|at| looks(*at))
        .collect();
    if places.is_empty() {
        return;
    }
    let at = *random.pick(&places);
    let value = u16::from_be_bytes([b[at], b[at + 1]]);
    let changed = match random.below(5) {
        0 => value.wrapping_add(1),
        1 => value.wrapping_sub(1),
        2 => value.wrapping_mul(4),
        3 => u16::MAX,
        _ => 0,
    };
    b[at..at + 2].copy_from_slice(&changed.to_be_bytes());
}

/// Lines that come in again, get lost, trade places, and have their words and numbers changed.
pub fn mutate_text(random: &mut Random, seed: &str, others: &[&str]) -> Vec<u8> {
    let mut lines: Vec<String> = seed.lines().map(str::to_owned).collect();
    for _ in 0..=random.below(4) {
        if lines.is_empty() {
            break;
        }
        let at = random.below(lines.len());
        match random.below(8) {
            0 => drop(lines.remove(at)),
            1 => {
                let copy = lines[at].clone();
                let most = if random.one_in(20) { 600 } else { 4 };
                for _ in 0..=random.below(most) {
                    lines.insert(at, copy.clone());
                }
            }
            2 => {
                let to = random.below(lines.len());
                lines.swap(at, to);
            }
            3 => {
                let other: Vec<&str> = random.pick(others).lines().collect();
                lines.insert(at, (*random.pick(&other)).to_owned());
            }
            4 => lines[at] = number_changed(random, &lines[at]),
            5 => lines[at] = word_changed(random, &lines[at]),
            6 => {
                let many = 1 + random.below(5_000);
                lines[at].push_str(&"x".repeat(many));
            }
            _ => lines.truncate(at),
        }
    }
    let mut text = lines.join(*random.pick(&["\r\n", "\n"])).into_bytes();
    text.extend_from_slice(b"\r\n");
    if random.one_in(4) {
        one(random, &mut text, &[]);
    }
    text
}

fn number_changed(random: &mut Random, line: &str) -> String {
    let digit = |c: char| c.is_ascii_digit();
    let starts: Vec<usize> = line.match_indices(digit).map(|(at, _)| at).collect();
    if starts.is_empty() {
        return line.to_owned();
    }
    let at = *random.pick(&starts);
    let tail = line[at..].trim_start_matches(digit);
    let value = *random.pick(&EDGES);
    format!("{}{value}{tail}", &line[..at])
}

fn word_changed(random: &mut Random, line: &str) -> String {
    let mut words: Vec<&str> = line.split(' ').collect();
    let at = random.below(words.len());
    let strange = [
        "",
        "*",
        "-1",
        "é",
        "a=",
        ":",
        ";=;",
        "0/0",
        "BUNDLE",
        "18446744073709551616",
    ];
    match random.below(3) {
        0 => words[at] = *random.pick(&strange),
        1 => drop(words.remove(at)),
        _ => words.insert(at, words[random.below(words.len())]),
    }
    words.join(" ")
}
