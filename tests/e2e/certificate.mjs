// Certificates for the loopback, made on the spot by the openssl command.
import { execFileSync, spawnSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';

// Why certify() cannot be called; false if it can. From 3.0 on a request is signed by the command that makes it.
export function withoutOpenssl() {
  const version = spawnSync('openssl', ['version'], { encoding: 'utf8' }).stdout;
  if (!version) return 'openssl is not installed';
  const major = /^OpenSSL (\d+)\./.exec(version)?.[1] ?? 0;
  return major >= 3 ? false : `openssl 3.0 or newer is needed, and this is ${version.trim()}`;
}

// A new certificate for 127.0.0.1 (and `names`: "DNS:hub.example") with its key in `folder`, signed by itself or by
// `authority`.
export function certify(folder, name, { authority, names = [] } = {}) {
  const [certFile, keyFile] = ['cert', 'key'].map((kind) => path.join(folder, `${name}.${kind}.pem`));
  const by = authority ? ['-CA', authority.certFile, '-CAkey', authority.keyFile] : [];
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '1',
    '-subj', `/CN=${name}`, '-addext', `subjectAltName=${['IP:127.0.0.1', ...names].join(',')}`, ...by, '-keyout', keyFile, '-out', certFile], { stdio: 'pipe' });
  const cert = readFileSync(certFile);
  return { certFile, keyFile, cert, key: readFileSync(keyFile), fingerprint: new X509Certificate(cert).fingerprint256 };
}
