# What is particular to this edge: the origins, which stream comes from which, and the key to show them.
# No "vcl 4.1;" here: varnish.vcl includes this file. After a change: systemctl reload varnish

backend origin {
    .host = "203.0.113.7";
    .port = "8080";
    # Longer than the longest blocked answer, three times the playlists' EXT-X-TARGETDURATION.
    .first_byte_timeout = 35s;
    .between_bytes_timeout = 5s;
    .connect_timeout = 2s;
    .probe = {
        .url = "/livez";
        .interval = 1s;
        .timeout = 2s;
        .window = 3;
        .threshold = 2;
        .initial = 2;
    }
}

# With several origins, each stream has one: name it here.
sub choose_origin {
    set req.backend_hint = origin;
}

# A key of the origin's with actions = ["read"] and shared_cache = true.
sub show_key {
    set bereq.http.Authorization = "Bearer KEY-OF-THIS-EDGE";
}
