<?php

declare(strict_types=1);

/*
 * For php.ini: opcache.preload=/…/bindings/php/preload.php
 *
 * Loads all classes of the package once, which lets them use FFI under `ffi.enable=preload`, the default for every SAPI
 * but the command line. It loads no library and no model: a web server forks after this.
 */
require __DIR__ . '/autoload.php'; // a class needs its parent before it
foreach (new RecursiveIteratorIterator(new RecursiveDirectoryIterator(__DIR__ . '/src')) as $file) {
    assert($file instanceof SplFileInfo);
    if ($file->getExtension() === 'php') {
        require_once $file->getPathname();
    }
}
