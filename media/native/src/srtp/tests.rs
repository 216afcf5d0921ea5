use super::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn keys(profile: u8, active: bool) -> Keys {
    let (key, salt) = match profile {
        2 => (32, 12),
        1 => (16, 12),
        _ => (16, 14),
    };
    Keys {
        material: (0..2 * (key + salt)).map(|i| (i * 7 + 3) as u8).collect(),
        profile,
        active,
    }
}

fn rtp(payload: &[u8], room: usize) -> Vec<u8> {
    let mut b = vec![0x80, 0x60, 0x12, 0x34, 0, 0, 0, 9, 0xca, 0xfe, 0xba, 0xbe];
    b.extend_from_slice(payload);
    b.resize(b.len() + room, 0);
    b
}

/// RFC 3711 appendix B.3.
#[test]
fn session_keys_are_derived_as_the_rfc_says() {
    let prf = counter_mode(&hex("E1F97A0D3E018BE0D64FA32C06DE4139"));
    let salt = hex("0EC675AD498AFEEBB6960B3AABE6");
    let derived = |label: u8, n: usize| {
        let mut out = vec![0; n];
        derive(&prf, &salt, label, &mut out);
        out
    };
    assert_eq!(derived(0, 16), hex("C61E7A93744F39EE10734AFE3FF7A087"));
    assert_eq!(derived(2, 14), hex("30CBBC08863D8C85D49DB34A9AE1"));
    assert_eq!(
        derived(1, 20),
        hex("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4")
    );
}

/// RFC 3711 appendix B.2: the key stream for SSRC 0, index 0.
#[test]
fn the_counter_mode_key_stream_is_the_rfcs() {
    let key = counter_mode(&hex("2B7E151628AED2A6ABF7158809CF4F3C"));
    let salt: [u8; 14] = hex("F0F1F2F3F4F5F6F7F8F9FAFBFCFD").try_into().unwrap();
    let mut stream = vec![0; 48];
    cm_apply(&key, &salt, 0, 0, &mut stream);
    let expected = "E03EAD0935C95E80E166B16DD92B4EB4 D23513162B02D0F72A43A2FE4A5F97AB
        41E95B3BB0A2E8DD477901E4FCA894C0";
    assert_eq!(stream, hex(expected));
}

/// RFC 7714 section 16.1: AES-128-GCM with session key and salt as given there.
#[test]
fn gcm_seals_as_the_rfc_says() {
    let key = hex("000102030405060708090a0b0c0d0e0f");
    let salt = hex("517569642070726f2071756f").try_into().unwrap();
    let key = UnboundKey::new(&AES_128_GCM, &key).unwrap();
    let srtp = Srtp(Cipher::Gcm {
        key: Box::new(LessSafeKey::new(key)),
        salt,
    });
    let clear = hex(
        "8040f17b 8041f8d3 5501a0b2 47616c6c 69612065 7374206f 6d6e6973 20646976 69736120
        696e2070 61727465 73207472 6573",
    );
    let mut packet = clear.clone();
    packet.resize(clear.len() + 16, 0);
    srtp.seal(&mut packet, 12, 0x5501_a0b2, 0xf17b);
    let expected = hex(
        "8040f17b 8041f8d3 5501a0b2 f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5 0d294e6f
        42a5f47a 51c7d19b 36de3adf 8833899d 7f27beb1 6a9152cf 765ee439 0cce",
    );
    assert_eq!(packet, expected);
    let opened = srtp.open(&mut packet, 12, 0x5501_a0b2, 0xf17b);
    assert_eq!(opened, Some(&clear[12..]));
}

#[test]
fn what_one_side_seals_the_other_opens_and_nobody_else() {
    for profile in 0..3 {
        let (a, b) = (keys(profile, true), keys(profile, false));
        assert!(a.is_sound());
        let (out, other_way) = (Srtp::new(&a, Way::Out), Srtp::new(&b, Way::Out));
        let into = Srtp::new(&b, Way::In);
        let index = 0x0003_1234;
        let mut packet = rtp(b"some payload", out.tag_len());
        out.seal(&mut packet, 12, 0xcafe_babe, index);
        assert_ne!(&packet[12..24], b"some payload");
        let sealed = packet.clone();
        assert_eq!(
            into.open(&mut packet, 12, 0xcafe_babe, index),
            Some(&b"some payload"[..])
        );
        let mut mirrored = sealed.clone();
        assert_eq!(other_way.open(&mut mirrored, 12, 0xcafe_babe, index), None);
        for at in [1, 12, sealed.len() - 1] {
            let mut bad = sealed.clone();
            bad[at] ^= 1;
            assert_eq!(
                into.open(&mut bad, 12, 0xcafe_babe, index),
                None,
                "byte {at}"
            );
        }
        let mut late = sealed.clone();
        let wrapped = index + 0x1_0000;
        assert_eq!(into.open(&mut late, 12, 0xcafe_babe, wrapped), None);
        for short in 0..12 + into.tag_len() {
            let mut cut = sealed[..short.min(sealed.len())].to_vec();
            assert_eq!(into.open(&mut cut, 12, 0xcafe_babe, index), None);
        }
    }
}

#[test]
fn rtcp_compounds_are_sealed_and_opened() {
    for profile in 0..3 {
        let out = Srtcp::new(&keys(profile, false), Way::Out);
        let into = Srtcp::new(&keys(profile, true), Way::In);
        let clear = [0x80, 201, 0, 1, 1, 2, 3, 4, 0x81, 203, 0, 1, 5, 6, 7, 8];
        let mut packet = clear.to_vec();
        packet.resize(clear.len() + out.extra(), 0);
        out.seal(&mut packet, 77);
        let sealed = packet.clone();
        assert_eq!(into.open(&mut packet), Some((77, &clear[..])));
        for at in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[at] ^= 4;
            assert_eq!(into.open(&mut bad), None, "byte {at}");
            assert_eq!(into.open(&mut sealed[..at].to_vec()), None, "{at} bytes");
        }
    }
}

#[test]
fn too_few_key_bytes_are_noticed() {
    let mut short = keys(2, true);
    short.material.pop();
    assert!(!short.is_sound());
}
