use super::*;

const VIDEO: usize = 1;
const AUDIO: usize = 0;
const MS: i64 = 1_000_000;
const SECOND: i64 = 1_000 * MS;
/// Our unix time when the publisher's media begins.
const START: i64 = 1_700_000_000 * SECOND;

fn clock() -> StreamClock {
    StreamClock::new(48_000, 90_000)
}

/// Packets of a medium whose samples are captured every `every_ms` and arrive `delay_ns(i)` later.
fn run(
    c: &mut StreamClock,
    medium: usize,
    from_ms: i64,
    count: i64,
    delay_ns: impl Fn(i64) -> i64,
) {
    let hz = if medium == VIDEO { 90 } else { 48 };
    for i in 0..count {
        let ms = from_ms + i * 20;
        let arrival = START + ms * MS + delay_ns(i);
        c.packet(medium, (ms * hz) as u64, arrival);
    }
}

fn error_ns(c: &StreamClock, medium: usize) -> i64 {
    let m = c.mapping(medium).expect("packets have come");
    m.at_ns(0) - START
}

#[test]
fn without_reports_the_least_delayed_packets_tell_the_time() {
    let mut c = clock();
    run(&mut c, VIDEO, 0, 500, |i| (5 + (i * 7) % 40) * MS);
    assert!(
        (error_ns(&c, VIDEO) - 5 * MS).abs() <= MS,
        "{}",
        error_ns(&c, VIDEO)
    );
    assert_eq!(c.jumps(), 0);
    assert_eq!(c.mapping(AUDIO), None);
}

#[test]
fn reports_make_lip_sync_the_publishers_whatever_the_encoders_delay() {
    let mut c = clock();
    // the publisher's own clock is 3 hours off; video takes 60 ms longer to encode than audio
    let skew = 10_800 * SECOND;
    for second in 0..20 {
        run(&mut c, VIDEO, second * 1_000, 50, |_| 70 * MS);
        run(&mut c, AUDIO, second * 1_000, 50, |_| 10 * MS);
        let ms = second * 1_000 + 990;
        for (medium, hz) in [(VIDEO, 90), (AUDIO, 48)] {
            let ntp = START + ms * MS + skew;
            c.report(medium, (ms * hz) as u64, ntp, START + ms * MS + 8 * MS);
        }
    }
    let (video, audio) = (error_ns(&c, VIDEO), error_ns(&c, AUDIO));
    assert!((video - audio).abs() < MS / 10, "{video} and {audio}");
    assert!(
        (video - 8 * MS).abs() < MS / 10,
        "dated as if delayed by the network alone"
    );
    assert_eq!(c.jumps(), 0);
}

#[test]
fn late_corrections_are_slewed_at_one_part_in_a_hundred() {
    let mut c = clock();
    run(&mut c, VIDEO, 0, 200, |_| 70 * MS);
    let before = error_ns(&c, VIDEO);
    let ms = 4_000;
    c.report(
        VIDEO,
        ms as u64 * 90,
        START + ms * MS,
        START + ms * MS + 10 * MS,
    );
    run(&mut c, VIDEO, ms + 20, 5, |_| 70 * MS);
    let moved = before - error_ns(&c, VIDEO);
    assert!(moved > 0 && moved <= 2 * MS, "{moved} ns in 170 ms");
}

#[test]
fn a_big_difference_is_taken_at_once_and_counted() {
    let mut c = clock();
    run(&mut c, VIDEO, 0, 50, |_| 10 * MS);
    // the timestamps jump forward by two seconds
    for i in 0..3u64 {
        let arrival = START + (1_000 + i as i64 * 20) * MS;
        c.packet(VIDEO, (3_000 + i * 20) * 90, arrival);
    }
    assert_eq!(c.jumps(), 1);
    let at = c.mapping(VIDEO).unwrap().at_ns(3_040 * 90);
    assert!((at - (START + 1_040 * MS)).abs() < 20 * MS);
}

#[test]
fn a_nonsensical_report_is_not_believed() {
    let mut c = clock();
    run(&mut c, VIDEO, 0, 50, |_| 10 * MS);
    let before = error_ns(&c, VIDEO);
    for k in 0..5 {
        let arrival = START + (1_000 + k) * MS;
        c.report(VIDEO, u64::from(u32::MAX), START, arrival);
        c.report(VIDEO, u64::from(u32::MAX), i64::MIN / 2, arrival);
    }
    assert_eq!(c.disbelieved(), 10);
    assert!((error_ns(&c, VIDEO) - before).abs() < MS);
}

#[test]
fn a_publisher_whose_wall_clock_is_set_moves_nobodys_time() {
    for hours in [-1i64, 1] {
        let mut c = clock();
        for second in 0..10 {
            run(&mut c, VIDEO, second * 1_000, 50, |_| 40 * MS);
            run(&mut c, AUDIO, second * 1_000, 50, |_| 40 * MS);
            let ms = second * 1_000 + 990;
            let set = if second < 5 {
                0
            } else {
                hours * 3_600 * SECOND
            };
            let at = START + ms * MS;
            c.report(VIDEO, (ms * 90) as u64, at + set, at + 8 * MS);
            for medium in [VIDEO, AUDIO] {
                assert!(
                    (0..=40 * MS).contains(&error_ns(&c, medium)),
                    "second {second}"
                );
            }
            c.report(AUDIO, (ms * 48) as u64, at + set, at + 9 * MS);
        }
        assert_eq!((c.jumps(), c.disbelieved()), (0, 0));
    }
}

#[test]
fn another_publisher_does_not_move_the_time_that_viewers_see() {
    let mut c = clock();
    for second in 0..5 {
        run(&mut c, VIDEO, second * 1_000, 50, |_| 20 * MS);
        let ms = second * 1_000 + 990;
        c.report(
            VIDEO,
            ms as u64 * 90,
            START + ms * MS,
            START + ms * MS + 5 * MS,
        );
    }
    let before = error_ns(&c, VIDEO);
    c.new_publisher();
    run(&mut c, VIDEO, 6_000, 10, |_| 20 * MS);
    assert!((error_ns(&c, VIDEO) - before).abs() < 5 * MS);
    assert_eq!(c.jumps(), 0);
}

#[test]
fn dates_and_timestamps_are_each_others_inverse() {
    let m = Mapping {
        zero_ns: START,
        hz: 48_000,
    };
    for ts in [0u64, 1, 960, 48_000, 1 << 33, 1 << 40] {
        assert!(m.ts_at(m.at_ns(ts)).abs_diff(ts) <= 1);
    }
    assert_eq!(m.ts_at(START - SECOND), 0);
}

#[test]
fn drift_of_the_publishers_clock_is_followed() {
    let mut c = clock();
    // its crystal is 100 ppm fast: after 10 minutes 60 ms
    for second in 0..600i64 {
        for i in 0..10 {
            let ms = second * 1_000 + i * 100;
            let true_ms_ns = ms * MS - ms * MS / 10_000;
            c.packet(VIDEO, ms as u64 * 90, START + true_ms_ns + 10 * MS);
        }
        let ms = second * 1_000 + 950;
        let arrival = START + ms * MS - ms * MS / 10_000 + 10 * MS;
        c.report(VIDEO, ms as u64 * 90, START + ms * MS, arrival);
    }
    let ms = 600_000i64;
    let at = c.mapping(VIDEO).unwrap().at_ns(ms as u64 * 90);
    let expected = START + ms * MS - ms * MS / 10_000 + 10 * MS;
    assert!((at - expected).abs() < 9 * MS, "{} ns off", at - expected);
    assert_eq!(c.jumps(), 0);
}

#[test]
fn the_first_reports_are_taken_as_they_are() {
    let mut c = clock();
    run(&mut c, VIDEO, 0, 25, |_| 150 * MS);
    run(&mut c, AUDIO, 0, 25, |_| 20 * MS);
    for (medium, hz) in [(VIDEO, 90), (AUDIO, 48)] {
        let at = START + 500 * MS;
        c.report(medium, 500 * hz, at, at + 5 * MS);
    }
    assert_eq!(error_ns(&c, VIDEO), 5 * MS);
    assert_eq!(error_ns(&c, AUDIO), 5 * MS);
    assert_eq!(c.jumps(), 0);
}

#[test]
fn reports_that_wobble_move_nothing() {
    let mut c = clock();
    let mut told = vec![];
    for second in 0..30i64 {
        run(&mut c, VIDEO, second * 1_000, 50, |_| 20 * MS);
        let at = START + (second * 1_000 + 990) * MS;
        let wobble = (second * 37 % 7 - 3) * MS;
        c.report(
            VIDEO,
            (second * 1_000 + 990) as u64 * 90,
            at + wobble,
            at + 8 * MS,
        );
        told.push(error_ns(&c, VIDEO));
    }
    assert!(told[4..].windows(2).all(|w| w[0] == w[1]), "{told:?}");
}
