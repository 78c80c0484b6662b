/** Style of the report: one light sheet, system fonts, made to be printed. */
export const REPORT_STYLE: string = `
:root{--ink:#1b2430;--soft:#5b6675;--line:#dde2e8;--wash:#f5f7f9;--accent:#0b63a8;--good:#176b3a}
*{box-sizing:border-box}
body{margin:0;background:#fff;color:var(--ink);font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:820px;margin:0 auto;padding:44px 32px 64px}
header{border-bottom:3px solid var(--accent);padding-bottom:14px;margin-bottom:22px}
h1{font-size:27px;line-height:1.2;margin:0 0 4px;letter-spacing:-.01em}
h2{font-size:18px;margin:38px 0 8px;padding-bottom:5px;border-bottom:1px solid var(--line)}
h3{font-size:15px;margin:20px 0 4px}
p{margin:8px 0}
.meta,.soft,figcaption{color:var(--soft);font-size:13px}
.lead{font-size:16.5px;line-height:1.6}
.tiles{display:grid;grid-template-columns:repeat(4,1fr);gap:10px;margin:20px 0}
.tile{background:var(--wash);border-radius:8px;padding:12px 14px}
.tile b{display:block;font-size:23px;line-height:1.25;font-variant-numeric:tabular-nums}
.tile span{display:block;color:var(--soft);font-size:12.5px;line-height:1.4}
table{border-collapse:collapse;width:100%;margin:10px 0;font-size:13.5px}
th{text-align:left;font-weight:600;color:var(--soft);border-bottom:1.5px solid var(--ink);padding:5px 10px 5px 0;vertical-align:bottom}
td{border-bottom:1px solid var(--line);padding:6px 10px 6px 0;vertical-align:top}
td.n,th.n{text-align:right;padding-right:14px;font-variant-numeric:tabular-nums;white-space:nowrap}
tr.real td{font-weight:600;background:#f0f6fb}
td:first-child,th:first-child{padding-left:8px}
code{font:12.5px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;overflow-wrap:anywhere}
pre{background:var(--wash);border-radius:8px;padding:12px 14px;margin:10px 0;white-space:pre-wrap}
.tag{display:inline-block;font-size:11.5px;font-weight:400;color:var(--soft);border:1px solid var(--line);border-radius:9px;padding:0 7px;margin-left:6px;background:#fff}
figure{margin:14px 0}
figcaption{margin-top:2px}
svg.chart{width:100%;height:auto;display:block;font-family:inherit}
svg .grid{stroke:#e6eaee}svg .axis{stroke:#8a94a1}
svg .tick{font-size:11.5px;fill:#5b6675}svg .label{font-size:12px;fill:#5b6675}svg .end{font-size:12px;font-weight:600}
ul{margin:8px 0;padding-left:20px}li{margin:3px 0}
footer{margin-top:44px;border-top:1px solid var(--line);padding-top:10px}
@media (max-width:640px){.tiles{grid-template-columns:repeat(2,1fr)}main{padding:24px 16px}}
@media print{
@page{size:A4;margin:16mm 15mm}
body{font-size:9.5pt}main{max-width:none;padding:0}.lead{font-size:11pt}
h1{font-size:20pt}h2{font-size:13pt;margin:20px 0 6px}table{font-size:8.8pt}td{padding-top:3px;padding-bottom:3px}
svg.chart{width:118mm}figure{margin:6px 0}figcaption{font-size:8.5pt}.tile b{font-size:15pt}.tile{padding:8px 12px}.tiles{margin:12px 0}footer{margin-top:20px}
h2{break-after:avoid}h3{break-after:avoid}figure,tr,.tiles,pre{break-inside:avoid}
.tile,pre,tr.real td{-webkit-print-color-adjust:exact;print-color-adjust:exact}
}
`;
