// The style sheet of a report: light, dark and printed.
//
// The ten colours of categories were searched for: each has a contrast of at least 3:1 with the paper, and no two are
// closer than 0.08 in OKLab, as seen with normal sight and with each kind of colour blindness (Machado et al. 2009).
#include "launch/report_parts.hpp"

namespace lorashard::launch {

namespace {

// Of a scheme: paper, letters, rules, and what colours stand for.
#define LORASHARD_LIGHT                                                                                       \
  "--paper:#ffffff;--ink:#1a1e23;--soft:#57606a;--rule:#d8dde3;--grid:#e9ecef;--idle:#edf0f2;--good:#1a7f4b;" \
  "--bad:#b3261e;--lora:#0b62a8;--full:#c2541a;--planned:#8b929b;"                                            \
  "--c0:#1a3d8e;--c1:#bb8b1e;--c2:#7094d2;--c3:#73503f;--c4:#626cc4;--c5:#926a04;--c6:#503052;--c7:#1a6384;"  \
  "--c8:#682505;--c9:#818183;--on0:#fff;--on2:#10151c;--second0:#4a69b5;--second2:#a5bce4;"
#define LORASHARD_DARK                                                                                        \
  "--paper:#14171b;--ink:#e4e7ea;--soft:#9ba5af;--rule:#353c44;--grid:#262c33;--idle:#22272d;--good:#58b987;" \
  "--bad:#f2837b;--lora:#5aa9e6;--full:#f08a4b;--planned:#7f8790;"                                            \
  "--c0:#4e65b4;--c1:#da992e;--c2:#5fb4e0;--c3:#dfbaa3;--c4:#8089e8;--c5:#9f7703;--c6:#b28d9c;--c7:#9bedff;"  \
  "--c8:#f4e072;--c9:#6f6f72;--on0:#fff;--on2:#10151c;--second0:#6d83cc;--second2:#a3d5f0;"

constexpr const char kStyle[] = ":root{color-scheme:light dark;" LORASHARD_LIGHT
                                "}"
                                "@media screen and (prefers-color-scheme:dark){:root{" LORASHARD_DARK
                                "}}"
                                R"(
*{box-sizing:border-box}
html{background:var(--paper)}
body{margin:0 auto;max-width:1120px;padding:48px 32px 64px;background:var(--paper);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","Liberation Sans",sans-serif;
font-variant-numeric:tabular-nums lining-nums}
header{border-bottom:1px solid var(--ink);padding-bottom:18px}
.kind{margin:0 0 10px;color:var(--soft);font-size:13px;letter-spacing:.04em}
.kind span{color:var(--ink);font-weight:600}
h1{margin:0;font-size:32px;line-height:1.2;font-weight:600;letter-spacing:-.012em}
.below{margin:8px 0 0;color:var(--soft)}
.verdict{margin:22px 0 0;padding:2px 0 2px 14px;border-left:4px solid var(--soft);font-size:18px}
.good{border-color:var(--good)}.good strong{color:var(--good)}
.bad{border-color:var(--bad)}.bad strong{color:var(--bad)}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(190px,1fr));gap:0 28px;margin:26px 0 0}
.tiles.pairs{grid-template-columns:repeat(auto-fit,minmax(170px,1fr))}
.tile{border-top:1px solid var(--rule);padding:10px 0 16px}
dt{color:var(--soft);font-size:13px}
dd{margin:2px 0 0;font-size:22px;line-height:1.3;font-weight:600;letter-spacing:-.005em;white-space:nowrap}
.unit{font-size:13px;font-weight:400;color:var(--soft);letter-spacing:0}
.pair dd small{font-size:13px;font-weight:400;letter-spacing:0;margin-left:8px;color:var(--soft)}
.pair dd.lora{color:var(--lora)}.pair dd.full{color:var(--full);margin-top:0}
dd.ratio{font-size:14px;font-weight:400;color:var(--ink);margin-top:4px;letter-spacing:0}
section{margin-top:44px}
h2{margin:0 0 4px;font-size:19px;line-height:1.3;font-weight:600}
h3{margin:20px 0 4px;font-size:15px;font-weight:600}
.note{margin:0 0 12px;max-width:74ch;color:var(--soft);font-size:14px}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;margin:10px 0 8px;padding:0;list-style:none;font-size:13px}
.legend li{white-space:nowrap}
.swatch{display:inline-block;vertical-align:-1px;width:11px;height:11px;margin-right:7px;
background:var(--c,transparent)}
.swatch.round{border-radius:50%}
.swatch.mark{width:3px;height:15px;margin:0 10px 0 4px;background:var(--ink);vertical-align:-3px}
.c0{--c:var(--c0)}.c1{--c:var(--c1)}.c2{--c:var(--c2)}.c3{--c:var(--c3)}.c4{--c:var(--c4)}
.c5{--c:var(--c5)}.c6{--c:var(--c6)}.c7{--c:var(--c7)}.c8{--c:var(--c8)}.c9{--c:var(--c9)}
.c0.second{--c:var(--second0)}.c2.second{--c:var(--second2)}
.lora{--c:var(--lora)}.full{--c:var(--full)}.idle{--c:var(--idle)}
.planned{--c:var(--planned)}.observed{--c:var(--c0)}
svg{display:block;width:100%;overflow:visible}
svg text{font-size:12px;fill:var(--soft)}
rect{fill:var(--c)}
.grid{stroke:var(--grid)}
.gap{stroke:var(--paper)}
.limit{stroke:var(--bad);stroke-width:1.5}
svg text.limit-name{fill:var(--bad)}
.mark{stroke:var(--ink);stroke-width:3}
.start{text-anchor:start}.middle,.nth{text-anchor:middle}.end,.up{text-anchor:end}
.bars{width:100%;border-collapse:collapse;margin:4px 0 16px}
.bars td,.bars th{padding:0;vertical-align:middle}
.bars th{width:1%;padding-right:16px;text-align:left;font-weight:400;font-size:14px;white-space:nowrap}
.bars td.end{width:1%;padding-left:16px;text-align:right;white-space:nowrap;font-size:14px}
.bars.dense th,.bars.dense td.end{font-size:11px;line-height:15px}
.bars th.axis-name{text-align:right}
.axis-name{margin:0;color:var(--soft);font-size:12px}
p.axis-name.across{text-align:right;padding-right:16px}
.bars th.axis-name{color:var(--soft);font-size:12px}
.wide{overflow-x:auto}
.figures{width:100%;border-collapse:collapse;margin:8px 0 0;font-size:14px}
.figures th,.figures td{padding:5px 0 5px 18px;text-align:right;white-space:nowrap;font-weight:400;
border-bottom:1px solid var(--grid)}
.figures th:first-child{padding-left:0;text-align:left}
.figures thead th{color:var(--soft);font-size:13px;border-bottom:1px solid var(--rule);vertical-align:bottom}
.figures tr:last-child>*{border-bottom-color:var(--rule)}
.figures .ruled>*{border-top:1px solid var(--rule)}
.figures.dense{font-size:12px}.figures.dense th,.figures.dense td{padding-top:1px;padding-bottom:1px}
.more{white-space:normal;color:var(--soft)}
.figures.narrow{width:auto;min-width:min(100%,600px)}
.none{color:var(--soft)}
figure{margin:10px 0 20px;min-width:0}
.plot{width:calc(100% - 76px);margin:8px 16px 34px 60px}
p.axis-name+.plot{margin-top:10px}
figure>.axis-name:not(.across),.timeline>.axis-name:not(.across){padding-left:0}
.plot+p.axis-name.across{margin-top:-12px}
.plot svg{width:100%;height:100%}
.curve{fill:none;stroke:var(--c);stroke-width:1.8;vector-effect:non-scaling-stroke;stroke-linejoin:round}
.curve.faint{stroke-width:1;opacity:.35}
.dot{fill:var(--c);stroke:var(--paper);stroke-width:1.5}
.columns{display:grid;grid-template-columns:repeat(auto-fit,minmax(380px,1fr));gap:0 32px}
.timeline{min-width:820px}
.timeline .nth{font-size:11px;fill:var(--on0)}
.timeline .small{font-size:9px}
.timeline .c2+.nth{fill:var(--on2)}
.timeline rect{stroke:var(--paper);stroke-width:.5}
.timeline .idle{stroke:none}
footer{margin-top:56px;padding-top:12px;border-top:1px solid var(--rule);color:var(--soft);font-size:13px}
@media (max-width:760px){body{padding:24px 16px 40px}h1{font-size:25px}.columns{grid-template-columns:1fr}}
@page{margin:14mm}
@media print{
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}
body{max-width:none;padding:0;font-size:12px}
h1{font-size:25px}dd{font-size:17px}.verdict{font-size:15px}
.tiles{margin-top:14px}.tile{padding:6px 0 8px}
section{margin-top:22px;break-inside:avoid}
footer{display:none}
.tiles,.tiles.pairs{grid-template-columns:repeat(4,1fr);gap:0 20px}.tiles.pairs{grid-template-columns:repeat(5,1fr)}
.figures{font-size:11px}.figures th,.figures td{padding:2px 0 2px 10px}.figures thead th{font-size:10px}
.figures thead .swatch{width:8px;height:8px;margin-right:4px}
.bars th,.bars td.end,.note{font-size:11px}
.wide{overflow:visible}.timeline{min-width:0}.tight{display:none}
.columns{grid-template-columns:1fr 1fr}
h2,h3,.note,.legend{break-after:avoid;break-inside:avoid}
.tiles,.tile,figure,.timeline,.bars,tr{break-inside:avoid}
}
)";

}  // namespace

const char* style_sheet() { return kStyle; }

}  // namespace lorashard::launch
