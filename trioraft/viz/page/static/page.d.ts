/* What the page's scripts hand to each other, for the type check (`npm run check`); nothing of it is
   shipped to a browser.

   Rules of this file: `RunData` is the contract with data.py, field by field; the rest is what the
   scripts make of it. */

type Numbers = number[];
type RoleName = "Follower" | "PreCandidate" | "Candidate" | "Leader" | "Dead";
type Severity = "error" | "warning" | "info";
type Pattern = "dots" | "stripes" | "hatch";
type KindName = "vote" | "prevote" | "heartbeat" | "entries" | "snapshot" | "transfer" | "read" |
  "message" | "role" | "timer" | "commit" | "link" | "test" | "other";
type MarkKind = "crash" | "restart" | "disconnect" | "reconnect" | "partition" | "heal" |
  "propose" | "join" | "leave" | "drop" | "cut" | "mend" | "dead" | "link up" | "link down" |
  "transfer" | "configuration" | "test";
/** How an arrow ends. */
type ArrowEnd = "head" | "bar" | "lost" | "open";

interface RunData {
  name: string;
  duration: number;
  sources: string[];
  sourceOf: Numbers;
  unknowns: string[];
  nodes: NodeData[];
  kinds: KindName[];
  entries: {
    time: Numbers, node: Numbers, kind: Numbers, line: Numbers, text: Numbers, texts: string[],
  };
  roles: {
    names: RoleName[], node: Numbers, role: Numbers, term: Numbers, start: Numbers, end: Numbers,
    entry: Numbers, reason: string[],
  };
  messages: {
    kind: Numbers, type: Numbers, types: string[], from: Numbers, to: Numbers, term: Numbers,
    sent: Numbers, received: Numbers, fate: Numbers, fates: string[], reply: Numbers,
    positive: Numbers, entries: Numbers, partner: Numbers, sentEntry: Numbers,
    receivedEntry: Numbers,
  };
  timers: {
    node: Numbers, term: Numbers, start: Numbers, end: Numbers, timeout: Numbers,
    endKind: string[], startEntry: Numbers, endEntry: Numbers,
  };
  commits: { node: Numbers, time: Numbers, index: Numbers, entry: Numbers };
  marks: MarkData[];
  terms: TermData[];
  findings: FindingData[];
  outages: OutageData[];
  weather: WeatherData[];
  states: {
    names: string[], field: Numbers, node: Numbers, entry: Numbers, value: Numbers, texts: string[],
  };
  explanations: Record<string, ExplanationData>;
}

interface ExplanationData { title: string; meaning: string; advice: string }
interface NodeData { name: string; fullName: string | null }
interface MarkData {
  kind: MarkKind; time: number; nodes: number[]; names: string; text: string; entry: number;
}
interface TermData {
  number: number; leader: string | null; leaders: number; candidates: string[]; start: number;
  won: number; entry: number; wonEntry: number;
}
interface FindingData {
  kind: string; severity: Severity; terms: number[]; nodes: string[]; start: number; end: number;
  detail: string; lines: number[]; entries: number[];
}

interface OutageData {
  node: number; start: number; end: number; level: "off" | "alone" | "partly"; text: string;
}
interface WeatherData { start: number; end: number; label: string; entry: number; row: number }

/** What an axis counts (axis.js). */
type Axis = TimeAxis | OrderAxis;
/** Entries, sorted, with their times. */
interface Arrivals { entry: Numbers; time: Float64Array }
/** What is shown: all that a picture asks of filters. */
interface Shown {
  readonly visibleNodes: number[];
  showsKind(name: KindName): boolean;
  showsNode(node: number): boolean;
  shows(entry: number): boolean;
}
/** A moment: its place on the axis, its time, and the last event before it (an index by time). */
interface Cursor { place: number; time: number; position: number }
/** A time and nodes that are shaded. */
interface Stretch { start: number; end: number; nodes: number[]; color: string }

/** What the words for a message are made of; `yes` is 1, 0 or -1, `answered` the entries it answers. */
interface MessageFacts {
  from: string; to: string; term: string; count: number; yes: number; answered: number | null;
}
interface PointerCallbacks {
  onPoint: (x: number, y: number) => void;
  onClick: (x: number, y: number) => void;
  onLeave: () => void;
  /** Whether a drag that begins so high scrubs. */
  scrubs?: (y: number) => boolean;
  onScrub?: (x: number) => void;
}
/** Changes of one value: where, and to what. */
interface Changes { position: Int32Array; value: Numbers }
/** What a node knows at a moment; null is what no line tells. */
interface NodeState {
  role: RoleName | null; term: number | null; vote: string | null; leader: string | null;
  votes: string | null; lastIndex: number | null; lastTerm: number | null; commit: number | null;
}

/** Spans of roles, as the model keeps them. */
interface RoleSpans {
  node: Numbers; role: Numbers; term: Numbers; reason: string[]; entry: Int32Array;
  start: Float64Array; end: Float64Array; endEntry: Int32Array;
}
interface MessageColumns {
  kind: Uint8Array; type: Numbers; types: string[]; from: Int16Array; to: Int16Array;
  term: Numbers; sent: Float64Array; received: Float64Array; fate: Numbers; fates: string[];
  reply: Numbers; positive: Numbers; entries: Numbers; partner: Int32Array;
  sentEntry: Int32Array; receivedEntry: Int32Array;
}
interface TimerSpans {
  node: Numbers; term: Numbers; start: Float64Array; end: Float64Array; timeout: Numbers;
  endKind: string[]; startEntry: Numbers; endEntry: Numbers;
}
/** Messages of one kind that are too many for arrows, counted by node and column. */
interface Crowd { name: KindName; counts: (Int32Array | null)[] }
interface CommitCurve { time: number[]; index: number[]; entry: number[] }

interface RoleStyle {
  color: string; height: number; letter: string; label: string; pattern?: Pattern;
}
/** Of a kind of entry; those that are drawn as arrows have all of it. */
interface KindStyle { label: string; color: string; width?: number; dash?: number[]; head?: number }
type ArrowStyle = Required<KindStyle>;

interface Band { top: number; height: number; bottom: number }
interface Lane {
  node: number; top: number; bottom: number; y: number;
}
/** What is under the pointer. */
interface Target {
  type: "message" | "role" | "timer" | "mark" | "term" | "finding" | "commit" | "entry" | "density" |
    "outage" | "weather";
  id: number;
  node?: number;
  value?: number;
  countAt?: (x: number) => { label: string, count: number }[];
}
interface Described { title: string; lines: string[]; log?: string }
/** What a layer draws on and from. */
interface Frame {
  c: CanvasRenderingContext2D; model: Model; view: View; layout: Layout; theme: Theme; hits: Hits;
  filters: Shown;
}
interface Layer { draw(frame: Frame): void }

interface Window { trioraft: App; comparison: Comparison }

/** What the live page is told (live/hub.py). */
interface LiveMember {
  address: string; problem: string | null; silent: number | null; id?: string; role?: string;
  term?: number; leader?: string | null; last?: number; commit?: number; applied?: number;
  lag?: number | null; why?: string; since?: number | null; links?: Record<string, boolean>;
  rate?: number; waiting?: string[];
}
interface LiveCluster {
  id: string | null; leader: string | null; configuration: { voters: string[] } | null;
  change: { voters: string[], stage: string } | null; members: LiveMember[]; every: number;
  began: number; clock: number; problem: string | null;
}
/** How a laboratory stands (cli/cluster/lab.py). */
interface LabMember {
  id: string; process: number | null; state: "running" | "paused" | "dead"; connected: boolean;
}
interface LabState {
  members: LabMember[]; blocked: [string, string][]; pre_vote: boolean;
}
interface LiveStep { say: string; text: string; until?: string }
interface LiveStory { name: string; title: string; watch: string; steps: LiveStep[] }
interface Window { trioraftLive: LiveApp }
