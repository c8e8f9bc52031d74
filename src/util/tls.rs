//! Outgoing TLS: the provider of its cryptography, and advice on errors. All outgoing connections trust the
//! system's authorities, or those that SSL_CERT_FILE and SSL_CERT_DIR name instead.

/// Sets the process's provider of cryptography, unless it has one: clients for HTTPS need it.
pub(crate) fn install_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default(); // The existing one works as well.
}

pub(crate) fn advice(error: &str) -> Option<&'static str> {
    let advice = [
        (
            &["UnknownIssuer"][..],
            "name the authority that signed it, a PEM file, in the environment: SSL_CERT_FILE=/path/ca.pem",
        ),
        (
            &["NotValidForName", "not valid for name", "not valid for any names"],
            "use a host that the certificate names, or have one issued for this host",
        ),
        (&["Expired", "certificate expired"], "have it renewed, or set this machine's clock"),
        (
            &["CertificateRequired"],
            "Roomlog has no certificate of its own to show: have the other side not ask for one \
             (in Redis `tls-auth-clients no`)",
        ),
        (
            &["read PEM"],
            "SSL_CERT_FILE and SSL_CERT_DIR, where they are set, must name PEM files of authorities",
        ),
    ];
    let (_, advice) = advice.iter().find(|(signs, _)| signs.iter().any(|sign| error.contains(sign)))?;
    Some(advice)
}
