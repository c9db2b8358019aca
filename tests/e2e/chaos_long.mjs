// `make chaos`: CHAOS_STREAMS (1,000) streams through one gateway before CHAOS_SERVERS (4) servers, one of which is
// killed every CHAOS_PAUSE_MS (1,000). Ends with 1 unless every stream is what it is undisturbed.
import { isDeepStrictEqual } from 'node:util';
import { inParallel, random, request, Servers, startGateway, stream } from './chaos.mjs';

const setting = (name, otherwise) => Number(process.env[name] ?? otherwise);
const count = setting('CHAOS_STREAMS', 1000);
const width = setting('CHAOS_WIDTH', 16);
const pause = setting('CHAOS_PAUSE_MS', 1000);
const tokens = setting('CHAOS_TOKENS', 96);
const seed = setting('CHAOS_SEED', 1);

const servers = await Servers.start(setting('CHAOS_SERVERS', 4), '--threads', '1');
const gateway = await startGateway(servers.urls);
let different = 0;
try {
  await gateway.until(async () => (await fetch(`${gateway.url}/ready`)).status === 200);
  const urls = servers.urls;
  const before = Date.now();
  const expected = await inParallel(count, width, (i) => stream(urls[i % urls.length], request(i, tokens)));
  const quiet = (Date.now() - before) / 1000;
  console.log(`${count} streams undisturbed in ${quiet.toFixed(1)} s`);
  const draw = random(seed);
  const killer = setInterval(() => servers.kill(draw), pause);
  const started = Date.now();
  const heard = await inParallel(count, width, (i) =>
    stream(gateway.url, request(i, tokens)).catch((error) => ({ error: String(error) })),
  );
  clearInterval(killer);
  const seconds = (Date.now() - started) / 1000;
  for (let i = 0; i < count; ++i) {
    if (isDeepStrictEqual(heard[i], expected[i])) continue;
    if (++different <= 5) console.log(`stream ${i} differs:`, JSON.stringify(heard[i]), 'instead of', JSON.stringify(expected[i]));
  }
  const resumed = await gateway.metric('tidemill_gateway_resumed_streams_total{kind="exact"}');
  const retries = await gateway.metric('tidemill_gateway_retries_total');
  console.log(
    `${count - different} of ${count} streams complete and identical in ${seconds.toFixed(1)} s, under ${servers.kills} kills: ` +
      `${resumed} resumptions, ${retries} retries before the first byte`,
  );
  if (servers.failure) throw servers.failure;
} finally {
  await gateway.kill();
  await servers.stop();
}
process.exitCode = different === 0 ? 0 : 1;
