// A worker by plain HTTP: Node's own server and fetch, and Playwright for the browser.
"use strict";

const http = require("node:http");
const { setTimeout: sleep } = require("node:timers/promises");
const { firefox } = require("playwright-core");

const CAPACITY = Number(process.env.CAPACITY ?? 2);
const HEARTBEAT_SECONDS = 2; // `make up` misses a worker after 6 s of silence, a cluster after 60
const TRIES = 6; // of a call that is not answered, or by 429 or 5xx
const REMEMBERED = 10_000;

const latest = new Map(); // job_id: its latest attempt, whether it still runs or not
const running = new Set();

/** The portal says no, and would say so again. */
class BusinessFailure extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/** The orchestrator took this attempt back (409): stop, and report nothing. */
class AttemptOver extends Error {}

/** One attempt of one job: the order, and what came of it so far. */
class Attempt {
  constructor(order) {
    this.order = order;
    this.over = false;
    this.phase = "starting";
    this.evidence = [];
    this.totpUsed = false;
    this.secrets = [order.token, order.browser_service_url];
    this.ids = { job_id: order.job_id, attempt: order.attempt };
  }

  async heartbeat() {
    const body = { ...this.ids, phase: this.phase };
    await this.post(`${this.order.orchestrator_callback}/callbacks/heartbeat`, body, { seconds: HEARTBEAT_SECONDS, tries: 1 });
  }

  /** A login code that nobody else gets; the answer waits until it is this attempt's turn. */
  async totp() {
    const answer = await this.post(`${this.order.totp_url}/totp/${this.order.provider}`, {}, { seconds: 300, tries: Infinity });
    this.totpUsed = true;
    this.secrets.push(answer.code);
    return answer.code;
  }

  async keep(name, content, type) {
    await this.call("PUT", `${this.order.orchestrator_callback}/callbacks/evidence/${name}`, content, type);
    this.evidence.push(name);
  }

  async complete(ending) {
    const report = { ...this.ids, evidence: this.evidence, totp_used: this.totpUsed, ...ending };
    await this.post(`${this.order.orchestrator_callback}/callbacks/job-complete`, report);
  }

  post(url, body, options) {
    return this.call("POST", url, JSON.stringify(body), "application/json", options);
  }

  /** One call with the order's token, tried again while that may help. */
  async call(method, url, body, type, { seconds = 30, tries = TRIES } = {}) {
    const headers = { authorization: `Bearer ${this.order.token}`, "content-type": type };
    for (let count = 1; ; count++) {
      if (this.over) throw new AttemptOver("the attempt is over");
      let problem, again = true, pause = Math.min(2 ** count / 4, 30);
      try {
        const answer = await fetch(url, { method, headers, body, signal: AbortSignal.timeout(seconds * 1000) });
        if (answer.ok) return await answer.json();
        if (answer.status === 409) this.over = true;
        again = answer.status === 429 || answer.status >= 500;
        pause = Math.max(pause, Number(answer.headers.get("retry-after")) || 0);
        problem = new Error(`${new URL(url).pathname} answered ${answer.status}: ${await answer.text()}`);
      } catch (error) {
        problem = error; // nobody answered
      }
      if (this.over) continue;
      if (!again || count >= tries) throw problem;
      await sleep(pause * 1000);
    }
  }

  /** Nothing secret leaves in a message: Playwright's own repeat what was typed. */
  clean(message) {
    const secrets = this.secrets.filter(Boolean);
    return secrets.reduce((text, secret) => text.replaceAll(secret, "[hidden]"), message).slice(0, 500);
  }
}

/** Portal's address and account: EVOTEL_URL, EVOTEL_USERNAME, EVOTEL_PASSWORD. */
function setting(name) {
  if (!process.env[name]) throw new Error(`set ${name} in the worker's environment`);
  return process.env[name];
}

async function validate(attempt, page) {
  const account = attempt.order.account ?? "EVOTEL";
  const password = setting(`${account}_PASSWORD`);
  attempt.secrets.push(password);
  attempt.phase = "logging in";
  await page.goto(setting("EVOTEL_URL"));
  await page.fill("#username", setting(`${account}_USERNAME`));
  await page.fill("#password", password);
  await page.click("button");
  attempt.phase = "waiting for a login code";
  await page.fill("#code", await attempt.totp());
  await page.click("button");
  attempt.phase = "asking for the circuit";
  await page.fill("#circuit", String(attempt.order.parameters.circuit));
  await page.selectOption("#action", "validation");
  await page.click("button");
  await page.waitForSelector("#outcome");
  await attempt.keep("outcome.png", await page.screenshot(), "image/png");
  if (await page.$("#error")) {
    throw new BusinessFailure(await page.innerText("#error"), await page.innerText("#reason"));
  }
  return { reference: await page.innerText("#reference") };
}

/** The action in the attempt's own browser, and how it ended. */
async function act(attempt) {
  try {
    attempt.browser = await firefox.connect(attempt.order.browser_service_url);
    const result = await validate(attempt, await attempt.browser.newPage());
    return { status: "completed", result };
  } catch (error) {
    const business = error instanceof BusinessFailure;
    const failure = { kind: business ? "business" : "application", code: business ? error.code : "error" };
    return { status: "failed", failure: { ...failure, message: attempt.clean(error.message) } };
  }
}

/** Heartbeats beside the action; once the attempt is over, its browser is let go, which ends the action. */
async function perform(attempt) {
  const beat = () => attempt.heartbeat().catch((error) => {
    if (error instanceof AttemptOver) attempt.browser?.close().catch(() => {});
    else log(attempt, `heartbeat failed: ${error.message}`);
  });
  const heart = setInterval(beat, HEARTBEAT_SECONDS * 1000);
  try {
    await beat();
    await attempt.complete(await act(attempt));
    log(attempt, "reported");
  } catch (error) {
    // Without a report the lease runs out, and the orchestrator decides.
    log(attempt, error instanceof AttemptOver ? "the attempt is over" : `not reported: ${error.message}`);
  } finally {
    clearInterval(heart);
    await attempt.browser?.close().catch(() => {});
    running.delete(attempt);
  }
}

function log(attempt, event) {
  console.error(JSON.stringify({ time: new Date().toISOString(), ...attempt.ids, event: attempt.clean(event) }));
}

/** Take an attempt, once however often it is ordered; the status, and the answer's body. */
function execute(order) {
  const known = latest.get(order.job_id) ?? 0;
  if (order.attempt === known) return [200, { status: "accepted", heartbeat_seconds: HEARTBEAT_SECONDS }];
  if (order.attempt < known) return [409, { detail: `attempt ${known} was ordered already` }];
  if (order.provider !== "evotel" || order.action !== "validation") return [422, { detail: "evotel, validation only" }];
  if (running.size >= CAPACITY) return [429, { detail: `${CAPACITY} attempts are running` }];
  latest.set(order.job_id, order.attempt);
  if (latest.size > REMEMBERED) latest.delete(latest.keys().next().value);
  const attempt = new Attempt(order);
  running.add(attempt);
  perform(attempt);
  return [200, { status: "accepted", heartbeat_seconds: HEARTBEAT_SECONDS }];
}

async function read(request) {
  const chunks = await Array.fromAsync(request);
  return JSON.parse(Buffer.concat(chunks).toString());
}

const server = http.createServer(async (request, response) => {
  let status = 404, body = {};
  try {
    if (request.url === "/status") [status, body] = [200, { available: running.size < CAPACITY }];
    if (request.url === "/execute" && request.method === "POST") [status, body] = execute(await read(request));
  } catch {
    [status, body] = [422, { detail: "the body must be a JSON object" }];
  }
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
});

/** Take nothing more, and let what runs end: Kubernetes kills what takes too long. */
process.on("SIGTERM", async () => {
  server.close();
  while (running.size > 0) await sleep(100);
  process.exit(0);
});

server.listen(Number(process.env.PORT ?? 8080), process.env.HOST ?? "0.0.0.0");
