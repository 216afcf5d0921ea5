use super::survives;

#[test]
fn a_panic_is_contained() {
    assert_eq!(survives(|| 7), Some(7));
    assert_eq!(survives(|| -> u8 { panic!("on purpose") }), None);
}
