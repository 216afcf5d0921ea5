//! Part of the SDP reader.
