# LL-HLS at a remote edge: one fetch from the origin for each playlist state and each part, whatever the number of viewers;
# everybody who waits for the same is woken when it comes. docs/cdn.md says how it is installed and checked.
# nginx in front has looked at the viewer's play link and taken it out of the path; what is particular to a site is in origin.vcl.
vcl 4.1;

import std;

include "./origin.vcl";

sub vcl_recv {
    if (req.method != "GET" && req.method != "HEAD") {
        return (synth(405, "http.method_not_allowed"));
    }
    if (req.url !~ "^/hls/[A-Za-z0-9][A-Za-z0-9_.-]{0,63}/[A-Za-z0-9._/-]{1,128}(\?|$)") {
        return (synth(404, "hls.unknown"));
    }
    unset req.http.Authorization;
    unset req.http.Cookie;
    unset req.http.Cache-Control;
    unset req.http.X-Query;
    call one_spelling;
    call choose_origin;
    # What is out of date is shown only while the origin cannot be reached.
    if (std.healthy(req.backend_hint)) {
        set req.grace = 0s;
    }
    return (hash);
}

# The name that an answer is kept under: the path, and of the query only what the origin reads, in one order.
sub one_spelling {
    if (req.url ~ "/live\.m3u8\?") {
        set req.http.X-Query = "&" + regsub(std.querysort(req.url), "^[^?]*\?", "");
        set req.http.X-Query = regsuball(req.http.X-Query, "&(?!_HLS_(?:msn|part|skip)=)[^&]*", "");
        if (req.http.X-Query !~ "^(&_HLS_msn=(0|[1-9][0-9]{0,15})(&_HLS_part=(0|[1-9][0-9]{0,5}))?)?(&_HLS_skip=(YES|v2))?$") {
            return (synth(400, "hls.query"));
        }
    } elsif (req.url ~ "/index\.m3u8\?") {
        set req.http.X-Query = "&" + regsub(std.querysort(req.url), "^[^?]*\?", "");
        set req.http.X-Query = regsuball(req.http.X-Query, "&(?!audio=)[^&]*", "");
        if (req.http.X-Query !~ "^(&audio=(opus|aac))?$") {
            return (synth(400, "hls.query"));
        }
    }
    set req.url = regsub(req.url, "\?.*$", "") + regsub(req.http.X-Query, "^&", "?");
    unset req.http.X-Query;
}

sub vcl_hash {
    hash_data(req.url);
    return (lookup);
}

sub vcl_backend_fetch {
    # Nothing of the viewer who happened to be first.
    unset bereq.http.X-Forwarded-For;
    unset bereq.http.User-Agent;
    unset bereq.http.Referer;
    unset bereq.http.Origin;
    call show_key;
}

sub vcl_backend_response {
    set beresp.grace = 0s;
    set beresp.keep = 0s;
    unset beresp.http.Set-Cookie;
    if (beresp.status == 200 && beresp.http.Cache-Control !~ "public") {
        # The key in origin.vcl is not one with shared_cache = true: everything is fetched for each viewer.
        set beresp.uncacheable = true;
        set beresp.ttl = 10s;
    } elsif (beresp.status == 200) {
        if (bereq.url ~ "\.m3u8") {
            # Once a state, not once a viewer.
            set beresp.do_gzip = true;
        }
        if (bereq.url ~ "\.m3u8$" || bereq.url ~ "\?audio=") {
            set beresp.grace = 10s;
        }
    } elsif (beresp.status != 404) {
        # Not kept; but all who waited for it have it at once. (Kept for no time at all they would ask one after the other.)
        set beresp.ttl = 0.25s;
    }
    return (deliver);
}

sub vcl_backend_error {
    set beresp.ttl = 0.25s;
    set beresp.grace = 0s;
    set beresp.http.Cache-Control = "no-store";
    set beresp.http.Content-Type = "application/problem+json";
    set beresp.http.Access-Control-Allow-Origin = "*";
    set beresp.http.Retry-After = "1";
    set beresp.status = 503;
    set beresp.body = """{"type":"about:blank","title":"Service Unavailable","status":503,"""
        + """"detail":"the origin does not answer","code":"edge.no_origin"}""";
    return (deliver);
}

sub vcl_synth {
    set resp.http.Cache-Control = "no-store";
    set resp.http.Content-Type = "application/problem+json";
    set resp.http.Access-Control-Allow-Origin = "*";
    set resp.body = {"{"type":"about:blank","code":""} + resp.reason
        + {"","title":"Refused","detail":"the edge does not serve this","status":"} + resp.status + "}";
    set resp.reason = "Refused";
    return (deliver);
}

sub vcl_deliver {
    if (obj.uncacheable) {
        set resp.http.X-Cache = "pass";
    } elsif (obj.hits > 0) {
        set resp.http.X-Cache = "hit";
    } else {
        set resp.http.X-Cache = "miss";
    }
    unset resp.http.X-Varnish;
    unset resp.http.Via;
    return (deliver);
}
