"""Media engines without HTTP: the packet plane, streams, CMAF and HLS."""
