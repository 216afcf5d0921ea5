//! The Python face of the data plane: `media._native`, typed by hand in `media/_native.pyi`.
//!
//! Converts and nothing else. The GIL is given back around everything that may wait.

use crate::api::{Address, Answered, Engine, Refusal};
use crate::dtls::Certificate;
use crate::rate::Allowance;
use crate::sdp::SdpFault;
use crate::shared::Limits;
use pyo3::create_exception;
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyTuple};

create_exception!(media._native, SdpError, PyValueError);
create_exception!(media._native, NotAcceptable, PyValueError);
create_exception!(media._native, Overloaded, PyRuntimeError);

static ANSWER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static EVENT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static UNIT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// (class, its place, its fields in order).
type NamedTuple = (&'static str, &'static PyOnceLock<Py<PyAny>>, &'static str);

const NAMED_TUPLES: [NamedTuple; 3] = [
    ("Answer", &ANSWER, "session sdp remote_ufrag"),
    ("Event", &EVENT, "session stream kind detail"),
    (
        "Unit",
        &UNIT,
        "stream session video at_ns timestamp keyframe lost data sps pps",
    ),
];

fn refused(refusal: Refusal) -> PyErr {
    match refusal {
        Refusal::Sdp(SdpFault::Malformed(reason)) => SdpError::new_err(reason),
        Refusal::Sdp(SdpFault::NotAcceptable(reason)) => NotAcceptable::new_err(reason),
        Refusal::Overloaded(limit, reason) => Overloaded::new_err((reason, limit)),
        Refusal::Broken(reason) => PyRuntimeError::new_err(reason),
    }
}

fn make<'py>(
    py: Python<'py>,
    class: &PyOnceLock<Py<PyAny>>,
    fields: Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    let class = class
        .get(py)
        .ok_or_else(|| PyRuntimeError::new_err("the module is not initialised"))?;
    class.bind(py).call1(fields)
}

fn answer(py: Python<'_>, answered: Answered) -> PyResult<Bound<'_, PyAny>> {
    let fields = (answered.session, answered.sdp, answered.remote_ufrag);
    make(py, &ANSWER, fields.into_pyobject(py)?)
}

fn dict<'py, V: IntoPyObject<'py>>(
    py: Python<'py>,
    items: impl IntoIterator<Item = (&'static str, V)>,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, value) in items {
        dict.set_item(name, value)?;
    }
    Ok(dict)
}

#[pyclass(frozen, module = "media._native")]
struct Sfu(Engine);

#[pymethods]
impl Sfu {
    #[new]
    #[pyo3(signature = (*, sockets, addresses, certificate=None, gso=true, hold_us=0,
        gop_bytes_max=8_388_608, sessions_max=5_000, silence_ms=30_000, handshake_ms=10_000,
        handshakes_max=1_000, handshakes_per_address_max=500, sessions_per_address_max=0,
        early_bytes_max=131_072, publisher_packets_per_second_max=20_000,
        publisher_bits_per_second_max=0, feedback_per_second_max=500,
        resends_per_second_max=5_000, keyframes_per_minute_max=30))]
    #[allow(clippy::too_many_arguments)] // keyword-only in Python
    fn new(
        py: Python<'_>,
        sockets: Vec<i32>,
        addresses: Vec<String>,
        certificate: Option<(Vec<u8>, Vec<u8>)>,
        gso: bool,
        hold_us: u64,
        gop_bytes_max: usize,
        sessions_max: usize,
        silence_ms: u64,
        handshake_ms: u64,
        handshakes_max: usize,
        handshakes_per_address_max: usize,
        sessions_per_address_max: usize,
        early_bytes_max: usize,
        publisher_packets_per_second_max: u64,
        publisher_bits_per_second_max: u64,
        feedback_per_second_max: u64,
        resends_per_second_max: u64,
        keyframes_per_minute_max: u64,
    ) -> PyResult<Self> {
        let mut parsed = vec![];
        for text in &addresses {
            let address = Address::parse(text);
            let bad = || PyValueError::new_err(format!("not an address: {text:?}"));
            parsed.push(address.ok_or_else(bad)?);
        }
        let limits = Limits {
            gso,
            hold_ns: hold_us.saturating_mul(1_000),
            gop_bytes_max,
            sessions_max,
            silence_ns: silence_ms.saturating_mul(1_000_000),
            handshake_ns: handshake_ms.saturating_mul(1_000_000),
            handshakes_max,
            handshakes_per_address_max,
            sessions_per_address_max,
            early_bytes_max,
            publisher_packets: Allowance::per_second(publisher_packets_per_second_max),
            publisher_bits: Allowance::per_second(publisher_bits_per_second_max),
            feedback: Allowance::per_second(feedback_per_second_max),
            resends: Allowance::per_second(resends_per_second_max),
            keyframes: Allowance::per_minute(keyframes_per_minute_max),
        };
        py.detach(|| {
            let certificate = match certificate {
                Some((certificate, key)) => Certificate::new(certificate, key),
                None => Certificate::generate().map_err(PyRuntimeError::new_err)?,
            };
            let engine = Engine::start(&sockets, &parsed, certificate, limits);
            engine.map(Sfu).map_err(|e| match e.kind() {
                std::io::ErrorKind::InvalidInput => PyValueError::new_err(e.to_string()),
                _ => PyOSError::new_err(e.to_string()),
            })
        })
    }

    fn publish<'py>(
        &self,
        py: Python<'py>,
        stream: &str,
        offer: &str,
    ) -> PyResult<Bound<'py, PyAny>> {
        let answered = py.detach(|| self.0.publish(stream, offer));
        answer(py, answered.map_err(refused)?)
    }

    fn play<'py>(&self, py: Python<'py>, stream: &str, offer: &str) -> PyResult<Bound<'py, PyAny>> {
        let answered = py.detach(|| self.0.play(stream, offer));
        answer(py, answered.map_err(refused)?)
    }

    #[pyo3(signature = (session, reason="closed by request"))]
    fn close(&self, py: Python<'_>, session: u64, reason: &str) -> bool {
        py.detach(|| self.0.close(session, reason))
    }

    fn keyframe(&self, py: Python<'_>, stream: &str) -> bool {
        py.detach(|| self.0.keyframe(stream))
    }

    fn tap(&self, py: Python<'_>, stream: &str, on: bool) -> PyResult<()> {
        if py.detach(|| self.0.tap(stream, on)) {
            Ok(())
        } else {
            Err(Overloaded::new_err(("too many streams", "streams")))
        }
    }

    fn fileno(&self) -> i32 {
        self.0.fileno()
    }

    fn events<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let events = py.detach(|| self.0.events());
        let fields = events
            .into_iter()
            .map(|e| (e.session, e.stream.to_string(), e.kind, e.detail));
        fields
            .map(|f| make(py, &EVENT, f.into_pyobject(py)?))
            .collect()
    }

    fn units<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let units = py.detach(|| self.0.units());
        let fields = units.into_iter().map(|u| {
            let pps = u.pps.iter().map(|p| PyBytes::new(py, p));
            Ok((
                u.stream.to_string(),
                u.session,
                u.video,
                u.at_ns,
                u.timestamp,
                u.keyframe,
                u.lost,
                PyBytes::new(py, &u.data),
                PyBytes::new(py, &u.sps),
                PyTuple::new(py, pps)?,
            ))
        });
        fields
            .map(|f: PyResult<_>| make(py, &UNIT, f?.into_pyobject(py)?))
            .collect()
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let (all, units_dropped) = py.detach(|| (self.0.stats(), self.0.units_dropped()));
        let rows = all.into_iter().enumerate().map(|(worker, s)| {
            dict(
                py,
                [
                    ("packets_out", s.tx.packets),
                    ("bytes_out", s.tx.bytes),
                    ("messages_out", s.tx.messages),
                    ("syscalls_out", s.tx.syscalls),
                    ("drops_out", s.tx.drops),
                    ("packets_in", s.packets_in),
                    ("bytes_in", s.bytes_in),
                    ("sessions", s.sessions),
                    ("handshakes", s.handshakes),
                    ("rtx_out", s.rtx_out),
                    ("nacks_out", s.nacks_out),
                    ("plis_out", s.plis_out),
                    ("stun_in", s.stun_in),
                    ("dropped_in", s.dropped_in),
                    ("dropped_between", s.dropped_between),
                    ("units_dropped", if worker == 0 { units_dropped } else { 0 }),
                    ("panics", s.panics),
                    ("packets_limited", s.packets_limited),
                    ("feedback_limited", s.feedback_limited),
                    ("resends_limited", s.resends_limited),
                    ("keyframes_limited", s.keyframes_limited),
                    ("peers_limited", s.peers_limited),
                    ("early_dropped", s.early_dropped),
                    ("cpu_ns", s.cpu_ns),
                    ("thread_id", s.thread_id),
                ],
            )
        });
        rows.collect()
    }

    fn streams<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let all = py.detach(|| self.0.streams());
        let rows = all.into_iter().map(|total| {
            let row = total.row;
            let numbers = [
                ("publisher", row.publisher as i64),
                ("viewers", row.viewers as i64),
                ("packets_in", row.packets_in.iter().sum::<u64>() as i64),
                ("bytes_in", row.bytes_in.iter().sum::<u64>() as i64),
                ("video_packets_in", row.packets_in[1] as i64),
                ("video_bytes_in", row.bytes_in[1] as i64),
                ("frames_in", row.frames_in as i64),
                ("lost_in", row.lost_in as i64),
                ("lost_total", row.tally.lost_in as i64),
                ("rtx_in", row.tally.rtx_in as i64),
                ("nacks_out", row.tally.nacks_out as i64),
                (
                    "packets_out",
                    row.tally.packets_out.iter().sum::<u64>() as i64,
                ),
                ("bytes_out", row.tally.bytes_out.iter().sum::<u64>() as i64),
                ("video_packets_out", row.tally.packets_out[1] as i64),
                ("video_bytes_out", row.tally.bytes_out[1] as i64),
                ("rtx_out", row.tally.rtx_out as i64),
                ("nacks_in", row.tally.nacks_in as i64),
                ("plis_in", row.tally.plis_in as i64),
                ("keyframe_age_ms", row.keyframe_age_ms),
                ("gop_packets", row.gop_packets as i64),
                ("gop_bytes", row.gop_bytes as i64),
                ("plis_out", row.plis_out as i64),
                ("rtt_ms", row.rtt_ms),
            ];
            let dict = dict(py, numbers)?;
            dict.set_item("stream", &*total.name)?;
            Ok(dict)
        });
        rows.collect()
    }

    fn sessions<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let all = py.detach(|| self.0.sessions());
        let rows = all.into_iter().map(|row| {
            let numbers = [
                ("session", row.session),
                ("packets", row.packets),
                ("bytes", row.bytes),
                ("lost", row.lost),
                ("rtx", row.rtx),
                ("nacks", row.nacks),
                ("plis", row.plis),
                ("age_ms", row.age_ms),
                ("idle_ms", row.idle_ms),
            ];
            let dict = dict(py, numbers)?;
            dict.set_item("stream", row.stream)?;
            dict.set_item("publisher", row.publisher)?;
            dict.set_item("connected", row.connected)?;
            dict.set_item("remote", row.remote)?;
            dict.set_item("rtt_ms", row.rtt_ms)?;
            Ok(dict)
        });
        rows.collect()
    }

    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.0.stop());
    }
}

/// Adds everything to the module.
pub fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = m.py();
    let namedtuple = py.import("collections")?.getattr("namedtuple")?;
    for (name, place, fields) in NAMED_TUPLES {
        let options = dict(py, [("module", "media._native")])?;
        let class = namedtuple.call((name, fields), Some(&options))?;
        m.add(name, &class)?;
        place.get_or_init(py, || class.unbind());
    }
    m.add("SdpError", py.get_type::<SdpError>())?;
    m.add("NotAcceptable", py.get_type::<NotAcceptable>())?;
    m.add("Overloaded", py.get_type::<Overloaded>())?;
    m.add("VERSION", env!("CARGO_PKG_VERSION"))?;
    m.add_class::<crate::swarm::python::PySwarm>()?;
    m.add_function(wrap_pyfunction!(crate::swarm::python::send_floor, m)?)?;
    m.add_class::<Sfu>()
}
