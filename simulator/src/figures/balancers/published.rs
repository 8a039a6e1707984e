//! What SOSP'21 publishes of its balancers, read off its plots.

/// (calls per second, P99 in seconds), figure 12; the cluster is `Normal`.
const P99_MWS: [(f64, f64); 10] = [
    (1.0, 11.0),
    (2.5, 10.5),
    (5.0, 14.5),
    (9.7, 10.5),
    (14.2, 15.0),
    (18.6, 12.0),
    (20.9, 15.0),
    (22.6, 21.5),
    (25.0, 70.0),
    (27.0, 110.0),
];
const P99_JSQ: [(f64, f64); 8] = [
    (1.0, 13.0),
    (2.5, 14.0),
    (5.0, 13.0),
    (7.4, 16.5),
    (9.9, 17.5),
    (11.9, 19.0),
    (14.1, 25.0),
    (16.3, 98.0),
];
const P99_VANILLA: [(f64, f64); 4] = [(1.0, 30.0), (2.6, 56.0), (5.0, 60.0), (7.3, 126.0)];

/// (calls per second, cold starts in per cent), figure 13.
const COLD_MWS: [(f64, f64); 8] =
    [(1.0, 34.0), (2.5, 17.0), (5.0, 11.0), (9.7, 7.7), (14.2, 7.0), (18.6, 9.5), (20.9, 11.0), (22.6, 24.0)];
const COLD_JSQ: [(f64, f64); 7] =
    [(1.0, 77.5), (2.5, 60.0), (5.0, 45.0), (7.4, 36.0), (9.9, 29.5), (11.9, 26.0), (14.1, 22.5)];

/// Calls per second at a P99 of 50 s, figures 12 and 15.
pub fn crossing(cluster: &str, policy: &str) -> Option<f64> {
    Some(match (cluster, policy) {
        ("Dedicated", "mws-sosp21") => 27.6,
        ("Normal", "mws-sosp21") => 24.0,
        ("Active", "mws-sosp21") => 18.0,
        ("Normal", "jsq-sosp21") => 14.9,
        ("Dedicated", "vanilla") => 18.8,
        ("Normal", "vanilla") => 2.2,
        ("Active", "vanilla") => 7.3,
        _ => return None,
    })
}

/// A published curve of P99.
pub fn p99(cluster: &str, policy: &str) -> Option<&'static [(f64, f64)]> {
    match (cluster, policy) {
        ("Normal", "mws-sosp21") => Some(&P99_MWS),
        ("Normal", "jsq-sosp21") => Some(&P99_JSQ),
        ("Normal", "vanilla") => Some(&P99_VANILLA),
        _ => None,
    }
}

/// A published curve of cold starts.
pub fn cold(cluster: &str, policy: &str) -> Option<&'static [(f64, f64)]> {
    match (cluster, policy) {
        ("Normal", "mws-sosp21") => Some(&COLD_MWS),
        ("Normal", "jsq-sosp21") => Some(&COLD_JSQ),
        _ => None,
    }
}
