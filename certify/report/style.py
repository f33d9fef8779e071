"""How a report looks: one column, light or dark as the reader's screen, and on A4 in black on white.

Contrasts are at least 4.5 to 1 on either background (WCAG 2.2, AA). Arms of audits have Okabe and Ito's colours (2008), lighter
on dark, and are told by their names as well.
"""

CSS = """
:root{color-scheme:light dark;--paper:#fff;--panel:#f6f7f8;--ink:#1b1f23;--soft:#57606a;--line:#d5dae0;
--good:#0b6b3a;--good-back:#e6f4ec;--bad:#a4161a;--bad-back:#fdeaea;--warn:#7a4b00;--warn-back:#fff3d6;
--original:#b34700;--unlearned:#0067a5;--retrained:#57606a}
@media (prefers-color-scheme:dark){:root{--paper:#14171a;--panel:#1d2125;--ink:#e8eaed;--soft:#a3abb4;--line:#3a4149;
--good:#6fd79b;--good-back:#12301f;--bad:#ff9b96;--bad-back:#3c1517;--warn:#f4c465;--warn-back:#362a0d;
--original:#f59a4f;--unlearned:#63b8f0;--retrained:#a3abb4}}
*{box-sizing:border-box}
body{margin:0 auto;padding:2.5rem 1.25rem 4rem;max-width:50rem;background:var(--paper);color:var(--ink);
font:1rem/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;overflow-wrap:anywhere}
h1{font-size:1.7rem;line-height:1.2;margin:.2rem 0 .4rem}
h2{font-size:1.2rem;margin:2.6rem 0 .7rem;padding-top:.9rem;border-top:1px solid var(--line)}
h3{font-size:1rem;margin:1.4rem 0 .4rem}
p.bad{padding:.5rem .8rem;border-radius:.3rem}
h4{font-size:.92rem;margin:1.2rem 0 .3rem}
p,ul,ol,dl{margin:.5rem 0}
p,li,td,dd,pre{unicode-bidi:isolate}
p,td,dd,pre,figure{overflow:hidden}
.soft,caption,figcaption{color:var(--soft)}
.eyebrow{color:var(--soft);font-size:.8rem;letter-spacing:.06em;text-transform:uppercase;margin:0}
.verdict{margin:1.4rem 0;padding:1.1rem 1.3rem;border-left:.4rem solid;border-radius:.3rem}
.verdict .word{font-size:1.35rem;font-weight:700;letter-spacing:.02em;margin:0}
.verdict p{color:var(--ink)}
.verdict p.word{color:inherit}
.good{color:var(--good);background:var(--good-back);border-color:var(--good)}
.bad{color:var(--bad);background:var(--bad-back);border-color:var(--bad)}
.warn{color:var(--warn);background:var(--warn-back);border-color:var(--warn)}
.mark{display:inline-block;padding:.05rem .55rem;border-radius:1rem;font-size:.82rem;font-weight:700;white-space:nowrap}
code,pre{font:.86em/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
pre{background:var(--panel);border:1px solid var(--line);border-radius:.3rem;padding:.7rem .9rem;white-space:pre-wrap}
table{border-collapse:collapse;width:100%;font-size:.92rem;font-variant-numeric:tabular-nums}
caption{text-align:left;padding:0 0 .4rem;font-size:.88rem}
th,td{text-align:left;vertical-align:top;padding:.42rem .8rem .42rem 0;border-bottom:1px solid var(--line)}
thead th{color:var(--soft);font-weight:600;font-size:.82rem;white-space:nowrap}
tbody th{font-weight:600}
tbody th time{font-weight:400}
.short{white-space:nowrap}
.steps{list-style:none;padding:0}
.steps>li{display:grid;grid-template-columns:2rem 1fr;padding:.5rem 0;border-bottom:1px solid var(--line)}
.steps .sign{font-weight:700}
.steps .good,.steps .bad{background:none}
.steps ul{padding-left:1.1rem;color:var(--soft);font-size:.9rem;margin:.2rem 0 0}
.steps .title{font-weight:600}
.idle .title{font-weight:400;color:var(--soft)}
details{border:1px solid var(--line);border-radius:.3rem;padding:.6rem .9rem;margin:.6rem 0}
summary{cursor:pointer;font-weight:600}
dt{font-weight:600;margin-top:.6rem}
dd{margin:0}
figure{margin:1rem 0}
figcaption{font-size:.88rem}
img{display:block;width:100%;max-width:36rem;background:#fff}
svg{display:block;width:100%;height:auto;font:13px system-ui,-apple-system,"Segoe UI",Roboto,Arial,sans-serif}
svg text{fill:var(--ink)}
svg .soft{fill:var(--soft);font-size:12px}
.axis{stroke:var(--line)}
.chance{stroke:var(--soft);stroke-dasharray:4 3}
.track{stroke:var(--line);stroke-linecap:round}
.band{fill:var(--line);opacity:.55}
.original{stroke:var(--original);fill:var(--original)}
.unlearned{stroke:var(--unlearned);fill:var(--unlearned)}
.retrained{stroke:var(--retrained);fill:var(--retrained)}
.hollow{fill:var(--paper);stroke-width:1.6}
footer{margin-top:3rem;padding-top:.9rem;border-top:1px solid var(--line);color:var(--soft);font-size:.85rem}
@page{size:A4;margin:18mm 16mm}
@media print{:root{color-scheme:light;--paper:#fff;--panel:#fff;--ink:#000;--soft:#444;--line:#bbb;
--good:#0b6b3a;--good-back:#fff;--bad:#a4161a;--bad-back:#fff;--warn:#7a4b00;--warn-back:#fff;
--original:#b34700;--unlearned:#0067a5;--retrained:#57606a}
body{max-width:none;padding:0;font-size:10pt}
h2,h3{break-after:avoid}
tr,figure,.steps>li,.verdict{break-inside:avoid}
.verdict{border:1px solid;border-left-width:.4rem}
details::details-content{content-visibility:visible;display:block}}
"""
