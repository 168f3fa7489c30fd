// The page: sends a file or the newest seconds of the microphone, and shows what comes back. Names are text, never HTML.
const HOP = 1;  // seconds of new sound between two questions
const SHOWN = 60;  // seconds of a microphone's sound
const ROWS = 8;  // names of a head
const get = id => document.getElementById(id);
const facts = await (await fetch("facts")).json();

let shown = null;  // {seconds, begin, levels, bands, columnSeconds, parts, heads, now}
let busy = null;  // ends what is going on
let begun = 0;  // how often something was begun

get("checkpoint").textContent = facts.checkpoint;
get("limits").textContent = `Up to ${facts.most_minutes} minutes and ${facts.most_megabytes} MB. ` +
  "The sound goes to the machine that this page comes from and is not kept there.";
get("highest").textContent = `${round(facts.sample_rate / 2000)} kHz`;
get("lift").textContent = "× is the lift: how many times as likely a name is here as in " +
  `${facts.lift_over}. A name is about ${round(facts.part_seconds)} s of sound. Strips show the lift over time, the ` +
  "number is the highest; of the microphone the newest names are bold.";

function round(number) { return Number(number.toFixed(1)); }
function times(lift) { return `×${lift >= 10 ? Math.round(lift) : lift.toFixed(1)}`; }
function short(name) { return name.split(",")[0]; }  // ImageNet's names list synonyms
function breakable(name) { return name.replace(/[/_]/g, "$&\u200b"); }  // a line may end there
function clock(seconds) {
  const whole = Math.round(seconds * 10) / 10;
  const rest = whole % 60;
  return `${Math.floor(whole / 60)}:${rest < 10 ? "0" : ""}${Number.isInteger(rest) ? rest : rest.toFixed(1)}`;
}
function element(tag, text = "", className = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = className;
  return made;
}
function say(line, isError = false) {
  get("status").textContent = line;
  get("status").classList.toggle("error", isError);
}

// Colours: the page's own, from low over middle to high.
function ramp() {
  const style = getComputedStyle(document.documentElement);
  const stops = ["--low", "--middle", "--high"].map(name => style.getPropertyValue(name).trim())
    .map(hex => [1, 3, 5].map(at => parseInt(hex.slice(at, at + 2), 16)));
  return share => {
    const [from, to, part] = share < .5 ? [stops[0], stops[1], 2 * share] : [stops[1], stops[2], 2 * share - 1];
    return from.map((value, at) => Math.round(value + (to[at] - value) * part));
  };
}

function drawPicture() {
  const { levels, bands, columnSeconds, begin, seconds } = shown;
  const canvas = get("picture"), columns = levels.length / bands;
  const small = Object.assign(document.createElement("canvas"), { width: Math.max(1, columns), height: bands });
  const image = new ImageData(small.width, bands), colour = ramp();
  const colours = Array.from({ length: 256 }, (_, level) => colour(level / 255));
  for (let x = 0; x < columns; x++)
    for (let y = 0; y < bands; y++)
      image.data.set([...colours[levels[x * bands + y]], 255], 4 * ((bands - 1 - y) * small.width + x));
  small.getContext("2d").putImageData(image, 0, 0);
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.drawImage(small, 0, 0, canvas.width * Math.min(1, columns * columnSeconds / (seconds - begin)), canvas.height);
}

function drawAxis() {
  const length = shown.seconds - shown.begin, marks = innerWidth < 640 ? 3 : 6;
  get("axis").replaceChildren(...Array.from({ length: marks }, (_, index) => {
    const mark = element("span", clock(shown.begin + length * index / (marks - 1)));
    mark.style.left = `${100 * index / (marks - 1)}%`;
    return mark;
  }));
}

// [name, its highest lift] by falling lift: of those first in some part, then of those second in one, and so on.
function strongest(head) {
  const found = new Map();
  for (const part of shown.parts)
    (part.tags[head] ?? []).forEach(({ name, lift }, place) => {
      const before = found.get(name) ?? { place, lift };
      found.set(name, { place: Math.min(place, before.place), lift: Math.max(lift, before.lift) });
    });
  const chosen = [...found].sort(([, a], [, b]) => a.place - b.place || b.lift - a.lift).slice(0, ROWS);
  return chosen.map(([name, { lift }]) => [name, lift]).sort((a, b) => b[1] - a[1]);
}

function nameRow(head, name, best, highest, colour) {
  const row = element("div", "", "row"), strip = element("div", "", "strip"), length = shown.seconds - shown.begin;
  for (const part of shown.parts) {
    const tag = (part.tags[head] ?? []).find(each => each.name === name);
    if (!tag || tag.lift <= 1) continue;
    const begin = Math.max(part.begin, shown.begin), cell = document.createElement("i");
    cell.style.left = `${100 * (begin - shown.begin) / length}%`;
    cell.style.width = `${100 * (part.end - begin) / length}%`;
    cell.style.background = `rgb(${colour(.15 + .85 * Math.log(tag.lift) / Math.log(highest))})`;
    cell.title = `${clock(part.begin)} to ${clock(part.end)}: ${times(tag.lift)}, ${(100 * tag.posterior).toFixed(1)} %`;
    strip.append(cell);
  }
  const label = element("span", breakable(short(name)), "label");
  label.title = name;
  row.classList.toggle("now", (shown.now?.tags[head] ?? []).some(tag => tag.name === name));
  row.append(label, strip, element("span", times(best), "times"));
  return row;
}

function drawNames() {
  const colour = ramp(), rows = facts.heads.map(head => [head, strongest(head)]);
  const highest = Math.max(10, ...rows.flatMap(([, found]) => found.map(([, lift]) => lift)));
  get("names").replaceChildren(...rows.flatMap(([head, found]) => [
    element("h2", head), ...found.map(([name, best]) => nameRow(head, name, best, highest, colour))]));
}

function drawHeadline(span, when) {
  const line = get("headline");
  line.replaceChildren(element("span", `${when}: `, "quiet"));
  if (span.unnamed) return line.append(`${span.unnamed}, so nothing is named`);
  facts.heads.flatMap(head => (span.tags[head] ?? []).slice(0, 2)).forEach((tag, index) => {
    line.append(index ? " · " : "", element("b", `${breakable(short(tag.name))} ${times(tag.lift)}`));
  });
}

function drawSimilar(neighbours) {
  get("similar").hidden = !neighbours;
  if (!neighbours) return;
  get("compared").textContent = `The nearest of ${facts.similar}, by cosine.`;
  get("similar").querySelector("ol").replaceChildren(...neighbours.map(each => {
    const item = document.createElement("li"), play = element("button", "Play");
    play.type = "button";
    play.onclick = () => {
      get("neighbour").src = `similar/${each.index}`;
      get("neighbour").play().catch(() => say(`${each.name} cannot be played`, true));
    };
    item.append(element("span", breakable(each.name)), element("span", each.cosine.toFixed(3), "times"), play);
    return item;
  }));
}

function draw() {
  if (!shown) return;
  drawPicture();
  drawAxis();
  drawNames();
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
addEventListener("resize", draw);

function begin(title) {
  begun += 1;
  busy?.();
  busy = shown = null;
  get("result").hidden = false;
  get("title").textContent = title;
  get("cursor").hidden = get("player").hidden = get("similar").hidden = true;
  get("headline").replaceChildren();
  get("names").replaceChildren();
  get("axis").replaceChildren();
  get("picture").getContext("2d").clearRect(0, 0, 1000, 192);
}

function levelsOf(text) { return Uint8Array.from(atob(text), letter => letter.charCodeAt(0)); }

async function* lines(response) {
  let rest = "";
  for (const reader = response.body.pipeThrough(new TextDecoderStream()).getReader(); ;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    yield* parts.map(line => JSON.parse(line));
  }
}

async function reasonOf(response) {
  return (await response.json().catch(() => ({}))).error ?? `the server answered ${response.status}`;
}

async function hearFile(file) {
  begin(file.name);
  if (file.size > facts.most_megabytes * 1e6) return fail(`${file.name} has more than ${facts.most_megabytes} MB: cut it first`);
  const abort = new AbortController();
  busy = () => abort.abort();
  say("listening ...");
  const player = get("player");
  URL.revokeObjectURL(player.src);
  player.src = URL.createObjectURL(file);
  try {
    const response = await fetch("sound", { method: "POST", body: file, signal: abort.signal });
    if (!response.ok) return fail(`${file.name}: ${await reasonOf(response)}`);
    let whole = false;
    for await (const answer of lines(response)) {
      if (answer.levels) {
        shown = { seconds: answer.seconds, begin: 0, levels: levelsOf(answer.levels), bands: answer.bands,
          columnSeconds: answer.column_seconds, parts: [] };
        if (answer.repairs.length) say(`listening ... (${answer.repairs.join("; ")})`);
      }
      if (answer.parts) {
        shown.parts = answer.parts;
        drawHeadline(answer.whole, answer.whole.end < shown.seconds - .1 ? `until ${clock(answer.whole.end)}` : "in all of it");
      }
      draw();
      if (answer.done) {
        whole = true;
        drawSimilar(answer.similar);
      }
    }
    if (!whole) return fail("the answer broke off: see the server's terminal");
    say("");
  } catch (error) {
    if (!abort.signal.aborted) fail(`no answer: is the server still running? (${error.message})`);
  }
}

function fail(line) {
  if (!shown) get("result").hidden = true;
  say(line, true);
}

// The newest seconds of the microphone, as many as a clip of the training has, as int16.
class Recent {
  constructor(rate) {
    this.rate = rate;
    this.samples = new Int16Array(Math.round(rate * facts.clip_seconds));
    this.total = 0;
  }
  add(block) {
    const scaled = Int16Array.from(block, value => Math.max(-32768, Math.min(32767, Math.round(value * 32768))));
    this.samples.copyWithin(0, scaled.length);
    this.samples.set(scaled, this.samples.length - scaled.length);
    this.total += scaled.length;
  }
  get held() { return this.samples.slice(-Math.min(this.total, this.samples.length)); }
}

async function openMicrophone() {
  if (!navigator.mediaDevices) throw new Error(
    "browsers give the microphone to https and to 127.0.0.1 alone: ssh -L 7860:127.0.0.1:7860 brings the page there");
  const sound = { echoCancellation: false, noiseSuppression: false, autoGainControl: false, channelCount: 1 };
  const stream = await navigator.mediaDevices.getUserMedia({ audio: sound });
  const context = new AudioContext();
  const close = () => { stream.getTracks().forEach(track => track.stop()); context.close(); };
  try {
    await Promise.race([context.resume(), silence()]);
    await context.audioWorklet.addModule("microphone.js");
    const worklet = new AudioWorkletNode(context, "microphone", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
    context.createMediaStreamSource(stream).connect(worklet);
    return { rate: context.sampleRate, port: worklet.port, close };
  } catch (error) {
    close();
    throw error;
  }
}

// Firefox waits for ever where the machine has nothing to play sound on.
function silence() {
  const error = new Error("the browser's audio does not start; is there a device that plays sound?");
  return new Promise((_, fail) => setTimeout(fail, 5000, error));
}

async function hearMicrophone() {
  begin("Microphone");
  say("waiting for the microphone ...");
  const mine = begun;
  let microphone;
  try {
    microphone = await openMicrophone();
  } catch (error) {
    return mine === begun && fail(`no microphone: ${error.message}`);
  }
  if (mine !== begun) return microphone.close();  // something else was begun while the browser asked its user
  const recent = new Recent(microphone.rate), abort = new AbortController();
  let asked = 0, asking = false;
  busy = () => {
    abort.abort();
    microphone.close();
    get("microphone").textContent = "Use the microphone";
    say("");
  };
  get("microphone").textContent = "Stop";
  say("listening to the microphone ...");
  microphone.port.onmessage = async ({ data }) => {
    recent.add(data);
    if (asking || recent.total - asked < HOP * recent.rate) return;
    asking = true;
    const end = recent.total / recent.rate, fresh = (recent.total - asked) / recent.rate;
    asked = recent.total;
    try {
      const response = await fetch(`live?rate=${recent.rate}&end=${end}`, { method: "POST", body: recent.held, signal: abort.signal });
      if (!response.ok) throw new Error(await reasonOf(response));
      const answer = await response.json();
      if (!abort.signal.aborted) showLive(answer, end, fresh);
    } catch (error) {
      if (abort.signal.aborted) return;
      busy();
      busy = null;
      fail(`the microphone was stopped: ${error.message}`);
    }
    asking = false;
  };
}

function showLive(answer, end, fresh) {
  const { bands, column_seconds: columnSeconds } = answer, levels = levelsOf(answer.levels);
  const added = levels.slice(-bands * Math.max(1, Math.round(fresh / columnSeconds)));
  const most = bands * Math.round(SHOWN / columnSeconds), before = shown?.levels ?? new Uint8Array(0);
  const joined = new Uint8Array(before.length + added.length);
  joined.set(before);
  joined.set(added, before.length);
  // A part of the strip is the new second, though its names are about all of the newest seconds.
  const parts = [...(shown?.parts ?? []), { ...answer, begin: end - fresh, end }].filter(part => part.end > end - SHOWN);
  shown = { seconds: end, begin: Math.max(0, end - SHOWN), levels: joined.slice(-most), bands, columnSeconds, parts, now: answer };
  drawHeadline(answer, `${clock(answer.begin)} to ${clock(answer.end)}`);
  drawSimilar(answer.similar);
  draw();
}

get("microphone").onclick = () => {
  if (get("microphone").textContent === "Stop") {
    busy?.();
    busy = null;
  } else hearMicrophone();
};
get("file").onchange = event => {
  const [file] = event.target.files;
  if (file) hearFile(file);
  event.target.value = "";  // the same file may be chosen again
};
addEventListener("dragover", event => { event.preventDefault(); get("drop").classList.add("over"); });
addEventListener("dragleave", () => get("drop").classList.remove("over"));
addEventListener("drop", event => {
  event.preventDefault();
  get("drop").classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (file) hearFile(file);
});

const player = get("player");
player.onloadedmetadata = () => { player.hidden = false; };  // what the browser cannot play has no player
player.ontimeupdate = () => {
  get("cursor").hidden = !shown || player.hidden;
  if (shown) get("cursor").style.left = `${100 * Math.min(1, player.currentTime / shown.seconds)}%`;
};
