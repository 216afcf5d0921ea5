//! The binary form of the records that make up a session: fixed order, little-endian, no gaps.
//!
//! A connected peer is plain data (`record!`), so that a later process can take it over. One macro
//! writes both directions from one field list; `seal`/`open` add the version. Not a wire protocol:
//! both ends are the same program, and what does not fit exactly is refused as a whole.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Raised with every change of any record.
pub const VERSION: u32 = 2;

/// A value with a binary form.
pub trait Wire: Sized {
    fn put(&self, out: &mut Vec<u8>);
    /// Takes itself from the front of `input`; None when that is not one of its kind.
    fn get(input: &mut &[u8]) -> Option<Self>;
}

/// Version and record.
pub fn seal<T: Wire>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    VERSION.put(&mut out);
    value.put(&mut out);
    out
}

/// The record, if version and length are exactly right.
pub fn open<T: Wire>(mut input: &[u8]) -> Option<T> {
    if u32::get(&mut input)? != VERSION {
        return None;
    }
    let value = T::get(&mut input)?;
    input.is_empty().then_some(value)
}

fn take<'a>(input: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (head, tail) = input.split_at_checked(n)?;
    *input = tail;
    Some(head)
}

macro_rules! numbers {
    ($($t:ty),*) => { $(impl Wire for $t {
        fn put(&self, out: &mut Vec<u8>) {
            out.extend_from_slice(&self.to_le_bytes());
        }
        fn get(input: &mut &[u8]) -> Option<Self> {
            let bytes = take(input, std::mem::size_of::<$t>())?;
            Some(<$t>::from_le_bytes(bytes.try_into().ok()?))
        }
    })* };
}
numbers!(u8, u16, u32, u64, i64);

impl Wire for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn get(input: &mut &[u8]) -> Option<Self> {
        match u8::get(input)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

impl<T: Wire> Wire for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }
    fn get(input: &mut &[u8]) -> Option<Self> {
        Some(if bool::get(input)? {
            Some(T::get(input)?)
        } else {
            None
        })
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        (self.len() as u32).put(out);
        self.iter().for_each(|value| value.put(out));
    }
    fn get(input: &mut &[u8]) -> Option<Self> {
        (0..u32::get(input)?).map(|_| T::get(input)).collect()
    }
}

impl<T: Wire, const N: usize> Wire for [T; N] {
    fn put(&self, out: &mut Vec<u8>) {
        self.iter().for_each(|value| value.put(out));
    }
    fn get(input: &mut &[u8]) -> Option<Self> {
        let all: Option<Vec<T>> = (0..N).map(|_| T::get(input)).collect();
        all?.try_into().ok()
    }
}

impl<A: Wire, B: Wire> Wire for (A, B) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }
    fn get(input: &mut &[u8]) -> Option<Self> {
        Some((A::get(input)?, B::get(input)?))
    }
}

impl Wire for Arc<[u8]> {
    fn put(&self, out: &mut Vec<u8>) {
        (self.len() as u32).put(out);
        out.extend_from_slice(self);
    }
    fn get(input: &mut &[u8]) -> Option<Self> {
        let n = u32::get(input)? as usize;
        Some(take(input, n)?.into())
    }
}

impl Wire for String {
    fn put(&self, out: &mut Vec<u8>) {
        (self.len() as u32).put(out);
        out.extend_from_slice(self.as_bytes());
    }
    fn get(input: &mut &[u8]) -> Option<Self> {
        let n = u32::get(input)? as usize;
        String::from_utf8(take(input, n)?.to_vec()).ok()
    }
}

impl Wire for SocketAddr {
    fn put(&self, out: &mut Vec<u8>) {
        match self.ip() {
            IpAddr::V4(ip) => {
                4u8.put(out);
                ip.octets().put(out);
            }
            IpAddr::V6(ip) => {
                6u8.put(out);
                ip.octets().put(out);
            }
        }
        self.port().put(out);
    }
    fn get(input: &mut &[u8]) -> Option<Self> {
        let ip: IpAddr = match u8::get(input)? {
            4 => <[u8; 4]>::get(input)?.into(),
            6 => <[u8; 16]>::get(input)?.into(),
            _ => return None,
        };
        Some(SocketAddr::new(ip, u16::get(input)?))
    }
}

/// Declares a struct together with its binary form, from one list of fields.
macro_rules! record {
    ($(#[$m:meta])* pub struct $n:ident { $($(#[$c:meta])* pub $f:ident : $t:ty),* $(,)? }) => {
        $(#[$m])* pub struct $n { $($(#[$c])* pub $f: $t),* }
        impl $crate::wire::Wire for $n {
            fn put(&self, out: &mut Vec<u8>) { $($crate::wire::Wire::put(&self.$f, out);)* }
            fn get(input: &mut &[u8]) -> Option<Self> {
                Some($n { $($f: $crate::wire::Wire::get(input)?),* })
            }
        }
    };
}
pub(crate) use record;

#[cfg(test)]
mod tests {
    use super::*;

    record! {
        #[derive(Clone, Debug, PartialEq)]
        pub struct Sample {
            pub small: u8,
            pub signed: i64,
            pub maybe: Option<u16>,
            pub list: Vec<(u64, bool)>,
            pub name: String,
            pub bytes: Arc<[u8]>,
            pub fixed: [u32; 3],
            pub at: SocketAddr,
            pub at6: SocketAddr,
        }
    }

    fn sample() -> Sample {
        Sample {
            small: 7,
            signed: -9,
            maybe: Some(513),
            list: vec![(1, true), (u64::MAX, false)],
            name: "näme".into(),
            bytes: Arc::from(&b"payload"[..]),
            fixed: [1, 2, 3],
            at: "192.0.2.1:5004".parse().unwrap(),
            at6: "[2001:db8::1]:5004".parse().unwrap(),
        }
    }

    #[test]
    fn a_record_comes_back_as_it_was() {
        assert_eq!(open::<Sample>(&seal(&sample())), Some(sample()));
    }

    #[test]
    fn every_truncation_and_any_tail_is_refused() {
        let whole = seal(&sample());
        for n in 0..whole.len() {
            assert_eq!(open::<Sample>(&whole[..n]), None, "{n} bytes");
        }
        let longer = [&whole[..], &[0]].concat();
        assert_eq!(open::<Sample>(&longer), None);
    }

    #[test]
    fn another_version_is_refused() {
        let mut whole = seal(&sample());
        whole[0] ^= 1;
        assert_eq!(open::<Sample>(&whole), None);
    }
}
