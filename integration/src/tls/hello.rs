//! First messages of a TLS client, byte by byte.

/// A ClientHello that is yet to be written.
#[derive(Clone, Debug)]
pub struct ClientHello {
    extensions: Vec<(u16, Vec<u8>)>,
}

impl ClientHello {
    /// With a server name, groups and signatures, as clients before TLS 1.3 send it.
    pub fn tls_1_2(sni: &str) -> Self {
        let name = sni.as_bytes();
        let mut list = length(name.len() + 3);
        list.push(0);
        list.extend(length(name.len()));
        list.extend(name);
        let hello = Self {
            extensions: vec![(0, list)],
        };
        // X25519; ECDSA on P-256.
        let hello = hello.extension(10, &[0, 2, 0, 29]);
        hello.extension(13, &[0, 2, 4, 3])
    }

    /// One that also offers TLS 1.3, with a share of X25519 that is as good as any.
    pub fn tls_1_3(sni: &str) -> Self {
        let mut share = vec![0, 36, 0, 29, 0, 32];
        share.extend([9; 32]);
        Self::tls_1_2(sni)
            .extension(43, &[2, 3, 4])
            .extension(51, &share)
    }

    /// With one more extension, in front of what is there: readers meet the name last.
    pub fn extension(mut self, kind: u16, data: &[u8]) -> Self {
        self.extensions.insert(0, (kind, data.to_vec()));
        self
    }

    /// With `n` more extensions that nobody knows, of `size` bytes each.
    pub fn unknown(mut self, n: u16, size: usize) -> Self {
        for kind in 0..n {
            self = self.extension(0x3a00 + kind, &vec![0; size]);
        }
        self
    }

    /// As a handshake message without records.
    pub fn message(&self) -> Vec<u8> {
        let mut extensions = Vec::new();
        for (kind, data) in &self.extensions {
            extensions.extend(kind.to_be_bytes());
            extensions.extend(length(data.len()));
            extensions.extend(data);
        }
        let mut hello = vec![3, 3];
        hello.extend([7; 32]);
        // No session, TLS_AES_128_GCM_SHA256, no compression.
        hello.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
        hello.extend(length(extensions.len()));
        hello.extend(extensions);
        let mut message = vec![1, (hello.len() >> 16) as u8];
        message.extend(length(hello.len() & 0xffff));
        message.extend(hello);
        message
    }

    /// In one record.
    pub fn record(&self) -> Vec<u8> {
        self.records(usize::MAX)
    }

    /// In records of at most `size` bytes.
    pub fn records(&self, size: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for piece in self.message().chunks(size.min(1 << 14)) {
            bytes.extend([22, 3, 1]);
            bytes.extend(length(piece.len()));
            bytes.extend(piece);
        }
        bytes
    }
}

/// The alert that ends `bytes`, if they end with one in clear.
pub fn alert(bytes: &[u8]) -> Option<u8> {
    match bytes {
        [.., 21, 3, _, 0, 2, 2, code] => Some(*code),
        _ => None,
    }
}

fn length(n: usize) -> Vec<u8> {
    (n as u16).to_be_bytes().to_vec()
}
