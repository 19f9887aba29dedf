"""The style sheet of the report. Okabe-Ito colours: safe for colour-blind readers."""

CSS = """
:root{--bg:#fbfbfa;--card:#fff;--ink:#1b1f24;--soft:#5b6470;--line:#e2e4e7;
--grid:#e9ebed;--source:#8b939e;--adabn:#b9679a;--mt0:#6db3dc;--mt:#0072b2;
--lpld:#d55e00;--oracle:#00916b;--other:#a08700;--shade:0 1px 2px #0000000f}
@media(prefers-color-scheme:dark){:root{--bg:#14171b;--card:#1c2026;--ink:#e8eaed;
--soft:#a2abb7;--line:#313841;--grid:#2a3038;--source:#8f98a4;--adabn:#d794bf;
--mt0:#8fcdf2;--mt:#4aa8e0;--lpld:#f28a3c;--oracle:#2fbf95;--other:#d2b93a;
--shade:none}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;scroll-behavior:smooth}
body{margin:0;background:var(--bg);color:var(--ink);line-height:1.55;
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","DejaVu Sans",
sans-serif}
main{max-width:1160px;margin:0 auto;padding:40px 24px 80px}
.kicker{color:var(--soft);font-size:14px;letter-spacing:.02em;margin:0 0 10px}
h1{font-size:clamp(25px,3.5vw,40px);line-height:1.22;letter-spacing:-.018em;
font-weight:680;margin:0 0 20px;text-wrap:balance}
h1 .part{display:block}
h1 b{font-weight:inherit;font-variant-numeric:tabular-nums;white-space:nowrap}
h1 b.source{color:var(--source)}h1 b.adapted{color:var(--lpld)}
h2{font-size:22px;letter-spacing:-.01em;line-height:1.3;margin:56px 0 6px}
h3{font-size:15px;margin:26px 0 8px}h3.first{margin-top:0}p.last{margin:10px 0 0}
.ladder{margin:6px 0 0}
.rung{display:grid;grid-template-columns:190px minmax(0,1fr) 52px;gap:0 14px;
align-items:center;font-size:14.5px}
.rung span{text-align:right;line-height:1.25}.rung b{font-size:16px;font-weight:660;
font-variant-numeric:tabular-nums}
.track{position:relative;height:36px}
.track i{position:absolute;display:block}
.track .bar{left:0;top:8px;bottom:8px;border-radius:4px;background:var(--c)}
.track .dot{width:10px;height:10px;border-radius:50%;border:2px solid var(--ink);
background:var(--card);top:13px;margin-left:-5px}
.track .ref{top:0;bottom:0;border-left:2px dashed var(--soft);opacity:.6}
.refnote{margin:8px 0 0 204px}
p{max-width:46em;margin:0 0 14px}
.lead{font-size:18px;color:var(--ink)}
.soft,figcaption{color:var(--soft);font-size:14.5px}
.card{background:var(--card);border:1px solid var(--line);border-radius:12px;
padding:18px 20px;box-shadow:var(--shade);margin:16px 0}
.scroll{overflow-x:auto;-webkit-overflow-scrolling:touch}
.nums{font-variant-numeric:tabular-nums}
svg.chart{display:block;width:100%;max-width:calc(1.25*var(--w));height:auto}
.scroll svg.chart{min-width:560px}
svg text{font:12px system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",
"DejaVu Sans",sans-serif;fill:var(--ink)}
svg .tick{fill:var(--soft);font-size:11px}svg .strong{font-weight:600;fill:var(--ink)}
svg .label{font-size:12.5px}svg .value{font-size:13px;font-weight:650}
svg .tiny{font-size:9.5px;fill:var(--soft)}
svg .grid{stroke:var(--grid)}svg .mark{stroke:var(--soft);stroke-dasharray:4 4}
svg .dot{fill:var(--card);stroke:var(--ink);stroke-width:1.4}
svg .line{fill:none;stroke-width:1.8;stroke-linejoin:round}
svg .dashed{stroke-dasharray:5 3}
.c-source{--c:var(--source)}.c-adabn{--c:var(--adabn)}
.c-mean_teacher_no_adabn{--c:var(--mt0)}.c-mean_teacher{--c:var(--mt)}
.c-lpld{--c:var(--lpld)}.c-oracle{--c:var(--oracle)}.c-other{--c:var(--other)}
.c-high{--c:var(--mt)}.c-low{--c:var(--lpld)}.c-dropped{--c:#9aa1aa}
.c-right{--c:#1f8fd6}.c-wrong{--c:#e8680c}.c-missed{--c:#9aa1aa}.c-truth{--c:#d9bf22}
svg .fill{fill:var(--c)}svg .line{stroke:var(--c)}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:4px 18px;padding:0;
margin:8px 0 12px;font-size:14px}
.legend li{display:flex;align-items:center;gap:7px}
.key{width:14px;height:14px;border-radius:4px;background:var(--c);flex:none}
.key.c-missed,.key.c-dropped{background:none;border:2px dashed var(--c)}
table{border-collapse:collapse;width:100%;font-size:14.5px}
th{font-weight:600;color:var(--soft);font-size:12.5px;text-align:right;
vertical-align:bottom;line-height:1.3;padding:0 10px 8px}
td{padding:10px;text-align:right;border-top:1px solid var(--line);white-space:nowrap;
font-variant-numeric:tabular-nums;vertical-align:top}
th:first-child,td:first-child{text-align:left;padding-left:0;white-space:normal;
min-width:132px}
td:last-child,th:last-child{padding-right:0}
td b{font-weight:650}td small{display:block;color:var(--soft);font-size:12.5px;
line-height:1.4}td:first-child small{max-width:25em}
td .seeds{font-size:12px}.main{font-size:16px}
tr.muted td{color:var(--soft)}tr.muted td:first-child b{color:var(--ink)}
td:first-child{position:relative;padding-left:20px!important}
.swatch{position:absolute;left:0;top:16px;width:11px;height:11px;border-radius:3px;
background:var(--c)}
.grid{display:grid;gap:22px 26px;grid-template-columns:
repeat(auto-fill,minmax(250px,1fr))}
.two{display:grid;gap:16px;grid-template-columns:minmax(0,2.3fr) minmax(0,1fr)}
.two .card{margin:0}
.strip{display:grid;gap:12px;margin:14px 0 26px;
grid-template-columns:repeat(var(--n),minmax(0,1fr))}
.strip figure{margin:0;min-width:0}
.strip figcaption{font-size:13px;line-height:1.35;margin-top:6px}
.strip figcaption b{color:var(--ink);font-weight:600;display:block}
.name{font-size:13px;color:var(--soft);margin:0;overflow-wrap:anywhere;
max-width:none}
.photo{position:relative;container-type:inline-size;border-radius:8px;overflow:hidden;
background:#000;display:block}
.photo svg{display:block;width:100%;height:auto}
.photo .halo,.photo .edge{fill:none;vector-effect:non-scaling-stroke}
.photo .halo{stroke:#000;stroke-opacity:.55;stroke-width:3.4px}
.photo .edge{stroke:var(--c);stroke-width:1.8px}
.photo .k-missed .halo{stroke-width:2.4px;stroke-opacity:.38}
.photo .k-missed .edge{stroke:#fff;stroke-dasharray:4 3;stroke-width:1.5px}
.photo .k-ignored .edge{stroke:#bbb;stroke-dasharray:2 3;stroke-width:1px}
.photo .k-dropped .edge{stroke:#fff;stroke-width:.7px;stroke-opacity:.65}
.photo .k-dropped .halo{stroke:none}
.photo .k-low .edge{stroke-width:1.5px}
.k-right{--c:#38b0ff}.k-wrong{--c:#ff8a1f}.k-truth{--c:#ffe14d}.k-high{--c:#38b0ff}
.k-low{--c:#ff8a1f}
.photo text{display:none;fill:#fff;font-weight:600;paint-order:stroke;stroke:#000;
stroke-width:1.2px;stroke-opacity:.8;stroke-linejoin:round}
@container(min-width:700px){.photo text{display:block}}
.photo .open{position:absolute;right:0;top:0;width:34px;height:34px;color:#fff;
text-decoration:none;display:grid;place-items:center;font-size:17px;opacity:.85;
text-shadow:0 0 4px #000,0 0 2px #000}
.photo .shut{display:none}
.photo:target{position:fixed;inset:0;z-index:9;border-radius:0;background:#000e;
display:grid;place-items:center;padding:2vmin}
.photo:target svg{max-width:100%;max-height:96vh}
.photo:target .open{display:none}
.photo:target .shut{display:block;position:absolute;inset:0;color:#fff;
text-decoration:none;text-align:right;padding:10px 16px;font-size:15px}
.store{position:absolute;width:0;height:0;overflow:hidden}
dl.facts{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:8px 20px;
margin:0;font-size:14.5px}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
pre{margin:6px 0 14px;padding:10px 12px;border-radius:8px;background:var(--bg);
border:1px solid var(--line);overflow-x:auto;font:13px/1.5 ui-monospace,
SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
details summary{cursor:pointer;font-weight:600;font-size:15px}
ul.missing{padding-left:1.2em;margin:8px 0;font-size:14.5px}
.note{border-left:3px solid var(--line);padding:2px 0 2px 14px}
@media(max-width:820px){main{padding:26px 16px 56px}.two{grid-template-columns:
minmax(0,1fr)}.strip{grid-template-columns:repeat(2,minmax(0,1fr));gap:10px}
.strip.odd{grid-template-columns:minmax(0,1fr)}
.card{padding:14px}h2{margin-top:44px}.lead{font-size:16.5px}}
@media(max-width:640px){.rung{grid-template-columns:minmax(0,1fr) 48px}
.rung span{grid-column:1/3;text-align:left;margin-top:8px}.track{height:26px}
.track .bar{top:4px;bottom:4px}.track .dot{top:8px}.refnote{margin-left:0}}
@media(max-width:520px){.strip{grid-template-columns:minmax(0,1fr)}
td:first-child small{display:none}td,th{padding-left:7px;padding-right:7px}
dl.facts{grid-template-columns:minmax(0,1fr);gap:0}dd{margin-bottom:10px}}
@media(min-width:521px){dl.meanings{display:none}}
@media print{.photo .open{display:none}.card{break-inside:avoid}}
"""
