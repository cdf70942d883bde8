<?php

declare(strict_types=1);

/*
 * Loads the classes of this package where Composer does not: `require '…/bindings/php/autoload.php';`.
 */
spl_autoload_register(static function (string $class): void {
    if (str_starts_with($class, 'Gomlx\\')) {
        $file = __DIR__ . '/src/' . strtr(substr($class, 6), '\\', '/') . '.php';
        if (is_file($file)) {
            require $file;
        }
    }
});
