//! `media._native.Swarm`: the class as its stub describes it.

use super::{ClientStats, Unit};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyDict;
use std::net::IpAddr;
use std::time::Duration;

type PyUnit = (bool, u64, bool, PyBackedBytes);

/// Many WHIP and WHEP clients on one thread, for load tests.
#[pyclass(name = "Swarm", module = "media._native", frozen)]
pub struct PySwarm(super::Swarm);

fn wrong(reason: String) -> PyErr {
    PyValueError::new_err(reason)
}

#[pymethods]
impl PySwarm {
    #[new]
    #[pyo3(signature = (*, bind = "127.0.0.1"))]
    fn new(py: Python<'_>, bind: &str) -> PyResult<Self> {
        let bind: IpAddr = bind
            .parse()
            .map_err(|_| wrong(format!("bind: {bind:?} is no address")))?;
        py.detach(|| super::Swarm::new(bind))
            .map(PySwarm)
            .map_err(wrong)
    }

    #[pyo3(signature = (*, decrypt = true, feedback = true))]
    fn offer_viewer(
        &self,
        py: Python<'_>,
        decrypt: bool,
        feedback: bool,
    ) -> PyResult<(u32, String)> {
        py.detach(|| self.0.offer_viewer(decrypt, feedback))
            .map_err(wrong)
    }

    #[pyo3(signature = (*, units, loop_ms, answer_pli = true, stamp = false, pace_ms = 0))]
    fn offer_publisher(
        &self,
        py: Python<'_>,
        units: Vec<PyUnit>,
        loop_ms: u64,
        answer_pli: bool,
        stamp: bool,
        pace_ms: u64,
    ) -> PyResult<(u32, String)> {
        py.detach(|| {
            let units: Vec<Unit> = units
                .iter()
                .map(|(video, at_ms, keyframe, data)| Unit {
                    video: *video,
                    at_ms: *at_ms,
                    keyframe: *keyframe,
                    data,
                })
                .collect();
            let pace = Duration::from_millis(pace_ms);
            self.0
                .offer_publisher(&units, loop_ms, answer_pli, stamp, pace)
        })
        .map_err(wrong)
    }

    fn answer(&self, py: Python<'_>, client: u32, sdp: &str) -> PyResult<()> {
        py.detach(|| self.0.answer(client, sdp)).map_err(wrong)
    }

    fn close(&self, py: Python<'_>, client: u32) -> PyResult<()> {
        py.detach(|| self.0.close(client)).map_err(wrong)
    }

    #[pyo3(signature = (client = None))]
    fn stats<'py>(
        &self,
        py: Python<'py>,
        client: Option<u32>,
    ) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let all = py.detach(|| self.0.stats(client)).map_err(wrong)?;
        all.iter().map(|stats| dict(py, stats)).collect()
    }

    #[pyo3(signature = (*, reset = false))]
    fn latency(&self, py: Python<'_>, reset: bool) -> PyResult<Vec<(u64, u64)>> {
        py.detach(|| self.0.latency(reset)).map_err(wrong)
    }

    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.0.stop());
    }
}

/// What sending costs the kernel: see `floor`.
#[pyfunction]
#[pyo3(signature = (*, packets, sinks = 300, gso = false))]
pub fn send_floor(
    py: Python<'_>,
    packets: u64,
    sinks: usize,
    gso: bool,
) -> PyResult<Bound<'_, PyDict>> {
    let floor = py
        .detach(|| super::floor::measure(packets, sinks, gso))
        .map_err(wrong)?;
    let dict = PyDict::new(py);
    dict.set_item("packets", floor.packets)?;
    dict.set_item("cpu_ns", floor.cpu_ns)?;
    dict.set_item("lost", floor.lost)?;
    Ok(dict)
}

fn dict<'py>(py: Python<'py>, s: &ClientStats) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("client", s.client)?;
    dict.set_item("server_port", s.server_port)?;
    dict.set_item("connected_us", s.connected_us)?;
    dict.set_item("first_packet_us", s.first_packet_us)?;
    dict.set_item("packets", s.packets)?;
    dict.set_item("bytes", s.bytes)?;
    dict.set_item("lost", s.lost)?;
    dict.set_item("duplicates", s.duplicates)?;
    dict.set_item("reordered", s.reordered)?;
    dict.set_item("decrypt_errors", s.decrypt_errors)?;
    dict.set_item("index_repeats", s.index_repeats)?;
    dict.set_item("frames", s.frames)?;
    dict.set_item("keyframes", s.keyframes)?;
    dict.set_item("rtx", s.rtx)?;
    dict.set_item("plis_received", s.plis_received)?;
    Ok(dict)
}
