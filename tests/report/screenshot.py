#!/usr/bin/env python3
"""Pictures of a report's page as people see it, and a check that nothing overlaps; for developers.

    screenshot.py PAGE.html PREFIX      PREFIX-{400,1200}-{light,dark}.png and PREFIX-print.pdf

Needs chromium, which it drives over its DevTools protocol. Exits with 1 and the names of what is wrong
when texts of a plot overlap or leave their plot, when text is below 11 pixels, when the page is wider
than the window, or when the page asks for anything from elsewhere."""
import base64
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

BROWSERS = ('chromium', 'chromium-browser', 'google-chrome', 'chrome')

# Runs in the page; gives a list of complaints.
CHECK = r'''
(() => {
  const wrong = [], slack = 0.5;
  const inside = (a, b) => a.left >= b.left - slack && a.right <= b.right + slack &&
                           a.top >= b.top - slack && a.bottom <= b.bottom + slack;
  const meet = (a, b) => a.left < b.right - slack && b.left < a.right - slack &&
                         a.top < b.bottom - slack && b.top < a.bottom - slack;
  const shown = list => [...document.querySelectorAll(list)].filter(e => e.checkVisibility());
  const say = text => wrong.push(text);
  if (document.documentElement.scrollWidth > innerWidth)
    say(`the page is ${document.documentElement.scrollWidth} wide in a window of ${innerWidth}`);
  const plots = [...document.querySelectorAll('svg[role=img]')];
  for (const svg of plots) {
    const name = `plot "${svg.getAttribute('aria-label')}"`, frame = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll('text')].filter(t => t.textContent.trim());
    if (texts.filter(t => t.matches('.name')).length != 2) say(`${name}: an axis without a name`);
    const boxes = texts.map(t => t.getBoundingClientRect());
    for (let i = 0; i < texts.length; i++) {
      const what = `${name}: "${texts[i].textContent}"`;
      const size = parseFloat(getComputedStyle(texts[i]).fontSize) * frame.width /
                   svg.viewBox.baseVal.width;
      if (size < 11 - 0.05) say(`${what} is ${size.toFixed(1)} pixels high`);
      if (!inside(boxes[i], frame)) say(`${what} leaves the plot`);
      for (let k = 0; k < i; k++)
        if (meet(boxes[i], boxes[k])) say(`${what} overlaps "${texts[k].textContent}"`);
    }
  }
  const all = shown('h1,h2,h3,p,li,figcaption,.figure,.figure b,.figure span,th,td,pre');
  for (const e of all) {
    const box = e.getBoundingClientRect();
    if (parseFloat(getComputedStyle(e).fontSize) < 11) say(`"${e.textContent}" is below 11 pixels`);
    if (!e.closest('.scroll') && (box.right > innerWidth + slack || box.left < -slack))
      say(`"${e.textContent}" leaves the window`);
    if (e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0 && getComputedStyle(e).display != 'inline')
      say(`"${e.textContent}" is wider than its box`);
  }
  const blocks = shown('h1,h2,h3,p,.figure,.plot>svg,.legend,.plot>figcaption,.scroll,pre');
  for (let i = 0; i < blocks.length; i++)
    for (let k = 0; k < i; k++)
      if (!blocks[k].contains(blocks[i]) && meet(blocks[i].getBoundingClientRect(), blocks[k].getBoundingClientRect()))
        say(`${blocks[i].tagName} "${blocks[i].textContent.slice(0, 40)}" overlaps ${blocks[k].tagName}`);
  for (const entry of performance.getEntriesByType('resource'))
    if (!entry.name.startsWith('data:')) say(`loads ${entry.name}`);
  return {wrong, plots: plots.length, height: document.documentElement.scrollHeight};
})()
'''


class Tab:
    """One tab, over a WebSocket (RFC 6455) of our own: no package to install."""

    def __init__(self, url):
        host, _, path = url.removeprefix('ws://').partition('/')
        name, _, port = host.partition(':')
        self.socket = socket.create_connection((name, int(port)), timeout=60)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall((f'GET /{path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\n'
                             f'Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n'
                             'Sec-WebSocket-Version: 13\r\n\r\n').encode())
        self.stream = self.socket.makefile('rb')
        while self.stream.readline() not in (b'\r\n', b''):
            pass
        self.number = 0

    def send(self, text):
        data, mask = text.encode(), os.urandom(4)
        size = len(data)
        head = (struct.pack('!BB', 0x81, 0x80 | size) if size < 126 else
                struct.pack('!BBH', 0x81, 0xfe, size) if size < 65536 else
                struct.pack('!BBQ', 0x81, 0xff, size))
        self.socket.sendall(head + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(data)))

    def receive(self):
        text = b''
        while True:
            first, size = self.stream.read(2)
            size &= 0x7f
            if size >= 126:
                size = int.from_bytes(self.stream.read(2 if size == 126 else 8), 'big')
            data = self.stream.read(size)
            if first & 0x0f in (0, 1):
                text += data
                if first & 0x80:
                    return json.loads(text)

    def call(self, method, **parameters):
        self.number += 1
        self.send(json.dumps({'id': self.number, 'method': method, 'params': parameters}))
        while True:
            answer = self.receive()
            if answer.get('id') == self.number:
                if 'error' in answer:
                    raise RuntimeError(f'{method}: {answer["error"]}')
                return answer['result']


def start(browser, folder):
    # Software drawing and no sandbox: this runs as root in containers, on a page of our own.
    process = subprocess.Popen(
        [browser, '--headless', '--no-sandbox', '--disable-gpu', '--hide-scrollbars',
         '--remote-debugging-port=0', f'--user-data-dir={folder}', 'about:blank'],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    port_file = Path(folder, 'DevToolsActivePort')
    for _ in range(300):
        if port_file.exists() and port_file.read_text().count('\n'):
            port = port_file.read_text().splitlines()[0]
            with urllib.request.urlopen(f'http://127.0.0.1:{port}/json') as answer:
                pages = [t for t in json.load(answer) if t['type'] == 'page']
            if pages:
                return process, Tab(pages[0]['webSocketDebuggerUrl'])
        if process.poll() is not None:
            break
        time.sleep(0.1)
    process.terminate()
    raise RuntimeError(f'{browser} does not start')


def evaluate(tab, code):
    answer = tab.call('Runtime.evaluate', expression=code, returnByValue=True)
    if 'exceptionDetails' in answer:
        raise RuntimeError(answer['exceptionDetails'])
    return answer['result'].get('value')


def save(path, data):
    Path(path).write_bytes(base64.b64decode(data))
    print(path)


def photograph(tab, page, prefix, width, scheme):
    tab.call('Emulation.setEmulatedMedia', media='screen',
             features=[{'name': 'prefers-color-scheme', 'value': scheme}])
    tab.call('Emulation.setDeviceMetricsOverride', width=width, height=900, deviceScaleFactor=1,
             mobile=False)
    tab.call('Page.navigate', url=page)
    for _ in range(300):
        if evaluate(tab, f'document.readyState == "complete" && location.href == {json.dumps(page)}'):
            break
        time.sleep(0.1)
    found = evaluate(tab, CHECK)
    clip = {'x': 0, 'y': 0, 'width': width, 'height': found['height'], 'scale': 1}
    shot = tab.call('Page.captureScreenshot', format='png', captureBeyondViewport=True, clip=clip)
    save(f'{prefix}-{width}-{scheme}.png', shot['data'])
    return [f'{width} px, {scheme}: {text}' for text in found['wrong']], found['plots']


def main():
    if len(sys.argv) != 3:
        sys.exit('usage: screenshot.py PAGE.html PREFIX')
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit('no browser: apt-get install chromium')
    page = Path(sys.argv[1]).resolve()
    if not page.is_file():
        sys.exit(f'{page} does not exist')
    wrong, plots = [], 0
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        process, tab = start(browser, folder)
        try:
            for width in (400, 1200):
                for scheme in ('light', 'dark'):
                    found, plots = photograph(tab, page.as_uri(), sys.argv[2], width, scheme)
                    wrong += found
            tab.call('Emulation.setEmulatedMedia', media='')
            save(f'{sys.argv[2]}-print.pdf', tab.call('Page.printToPDF', printBackground=False)['data'])
        finally:
            process.terminate()
            process.wait()
    print('\n'.join(wrong) or f'{plots} plots, nothing overlaps')
    return bool(wrong)


if __name__ == '__main__':
    sys.exit(main())
