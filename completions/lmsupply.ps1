# PowerShell completion of lmsupply. Install it:
#   lmsupply completion powershell >> $PROFILE
Register-ArgumentCompleter -Native -CommandName lmsupply -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $words = @($commandAst.CommandElements | Select-Object -Skip 1 | ForEach-Object { $_.ToString() })
    if ($wordToComplete -eq '') { $words += '""' }
    $env:_LMSUPPLY_COMPLETE = 'powershell'
    try {
        lmsupply @words 2>$null | ForEach-Object {
            $value, $help = $_ -split "`t", 2
            [System.Management.Automation.CompletionResult]::new($value, $value, 'ParameterValue', $(if ($help) { $help } else { $value }))
        }
    } finally {
        Remove-Item Env:_LMSUPPLY_COMPLETE
    }
}
